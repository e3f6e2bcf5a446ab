/// A page in headless Chromium: what its script makes of the document, what it says on the console, what it looks like.
#pragma once

#include <string>

namespace covey::test {

struct Page {
  std::string dom;      ///< after the page's script ran
  std::string console;  ///< lines that the page's script wrote or failed with
};

/// Fails the test where no Chromium is installed or the page gives no document.
Page open_page(const std::string& url, int width, int height);
/// Writes a PNG; its bytes come back.
std::string screenshot(const std::string& url, int width, int height, bool dark, const std::string& png);

/// What stands between `from` and the next `to`; empty where it is not there.
std::string between(const std::string& text, const std::string& from, const std::string& to);

/// A script that leaves <pre id="probe"> with one line for each canvas, "id WIDTH HEIGHT COLOURED", where COLOURED is
/// the number of its pixels that are no shade of grey, and a line "page SCROLL_WIDTH INNER_WIDTH".
std::string probe_script();

}  // namespace covey::test
