/// A page in headless Chromium: what its script makes of the document, what it says on the console, what it looks like.
#pragma once

#include <string>
#include <vector>

namespace covey::test {

struct Page {
  std::string dom;      ///< after the page's script ran
  std::string console;  ///< lines that the page's script wrote or failed with
};

/// Fails the test where no Chromium is installed or the page gives no document.
Page open_page(const std::string& url, int width, int height, bool dark = false);
/// Writes a PNG; its bytes come back.
std::string screenshot(const std::string& url, int width, int height, bool dark, const std::string& png);

/// What stands between `from` and the next `to`; empty where it is not there.
std::string between(const std::string& text, const std::string& from, const std::string& to);

/// What a reader would stumble over, found by a script in the page; every <details> is opened for it.
struct Looks {
  int page_width = 0;
  int window_width = 0;
  double ground = 0;                     ///< luminance of the page's background: 0 black, 1 white
  double contrast = 0;                   ///< the least of any text against what lies behind it (WCAG: 4.5 is enough)
  std::string contrast_of;               ///< that text
  double smallest_text = 0;              ///< pixels
  std::vector<std::string> clipped;      ///< texts that are cut off or leave the window
  std::vector<std::string> overlapping;  ///< pairs of texts of one drawing
  struct Drawing {
    std::string id;
    double width = 0;        ///< pixels
    double longest = 0;      ///< of its lines, in pixels
    int shapes = 0;          ///< bars, dots and bands that have a size
    bool described = false;  ///< it has a title and a description
  };
  std::vector<Drawing> drawings;
};
/// @param html  the page; its Content-Security-Policy is taken off for the script. @param folder  for the probed copy.
Looks look_at(const std::string& html, const std::string& folder, int width, bool dark);

}  // namespace covey::test
