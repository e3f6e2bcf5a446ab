#include <algorithm>

#include "browser/chromium.h"

#include "core/base/file.h"
#include "core/formats/json.h"
#include "support/support.h"

namespace covey::test {
namespace {

const std::string& browser() {
  static const std::string found = [] {
    auto result = run_command("command -v chromium || command -v chromium-browser || command -v google-chrome");
    REQUIRE_MESSAGE(result.exit_code == 0, "no Chromium here; `tests/run.sh --browser` installs it");
    result.out.erase(result.out.find_last_not_of('\n') + 1);
    return result.out;
  }();
  return found;
}

/// Off the network, with a profile of its own; time of the page's timers runs ahead, so it needs no waiting.
CommandResult run(const TempDir& profile, int width, int height, const std::string& more) {
  return run_command("timeout 120 " + browser() +
                     " --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars"
                     " --disable-background-networking --disable-component-update --disable-sync --disable-extensions"
                     " --disable-dev-shm-usage --force-device-scale-factor=1 --virtual-time-budget=4000"
                     " --enable-logging=stderr --user-data-dir=" +
                     profile.path() + " --window-size=" + std::to_string(width) + "," + std::to_string(height) + " " +
                     more);
}

/// Blink's numbers: 0 dark, 1 light.
std::string scheme(bool dark) {
  return std::string("--blink-settings=preferredColorScheme=") + (dark ? "0" : "1");
}

/// Tells the page around it, as a JSON object.
const char* const kProbe = R"(<script>
window.addEventListener("load", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
  const numbers = colour => colour.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map(c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = numbers(getComputedStyle(element).backgroundColor);
      if (colour.length < 4 || colour[3] > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  const scrolls = element => element.closest(".scroll, pre") !== null;
  const out = { clipped: [], overlapping: [], drawings: [], contrast: 21, contrast_of: "", smallest_text: 99 };
  out.page = [document.documentElement.scrollWidth, window.innerWidth];
  out.ground = luminance(numbers(getComputedStyle(document.body).backgroundColor));
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement, words = node.textContent.trim();
    if (words === "" || element.closest("script, style, title, desc")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect();
    if (box.width === 0) continue;
    const drawing = element.closest("svg"), style = getComputedStyle(element);
    const a = luminance(numbers(drawing ? style.fill : style.color)), b = luminance(behind(element));
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < out.contrast) { out.contrast = contrast; out.contrast_of = words; }
    const scale = drawing ? drawing.getBoundingClientRect().width / drawing.viewBox.baseVal.width : 1;
    out.smallest_text = Math.min(out.smallest_text, parseFloat(style.fontSize) * scale);
    if (drawing) {
      const frame = drawing.getBoundingClientRect();
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1) out.clipped.push(words);
    } else if (!scrolls(element) && (box.right > window.innerWidth + 1 || box.left < -1 ||
               (style.overflowX !== "visible" && element.scrollWidth > element.clientWidth + 1))) {
      out.clipped.push(words);
    }
  }
  for (const figure of document.querySelectorAll("figure.chart")) {
    const svg = figure.querySelector(":scope > svg");
    if (!svg) continue;
    const texts = [...svg.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]);
    texts.forEach(([words, a], i) => texts.slice(i + 1).forEach(([other, b]) => {
      if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3) out.overlapping.push(`${figure.id}: ${words} / ${other}`);
    }));
    const lengths = [...svg.querySelectorAll("path.curve, path.span")].map(p => p.getTotalLength());
    const shapes = [...svg.querySelectorAll("rect[class], .dot, .cross, .band, .mid")].filter(s => s.getBoundingClientRect().width > 1);
    out.drawings.push({ id: figure.id, width: svg.getBoundingClientRect().width, longest: Math.max(0, ...lengths), shapes: shapes.length,
      described: svg.querySelector("title").textContent !== "" && svg.querySelector("desc").textContent !== "" });
  }
  parent.postMessage(JSON.stringify(out), "*");
});
</script>)";

std::string without_escapes(std::string text) {
  for (const auto& [from, to] : {std::pair{"&lt;", "<"}, {"&gt;", ">"}, {"&nbsp;", "\u00a0"}, {"&amp;", "&"}}) {
    for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at + 1)) {
      text.replace(at, std::string(from).size(), to);
    }
  }
  return text;
}

std::vector<std::string> strings_of(const formats::Json& from) {
  std::vector<std::string> out;
  for (const auto& one : from.items()) out.push_back(*one.as_string());
  return out;
}

}  // namespace

Page open_page(const std::string& url, int width, int height, bool dark) {
  const TempDir profile;
  const auto result = run(profile, width, height, scheme(dark) + " --dump-dom '" + url + "'");
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  REQUIRE_MESSAGE(result.out.find("<html") != std::string::npos, result.err);
  Page page{result.out, {}};
  std::size_t at = 0;
  while (at < result.err.size()) {
    const std::size_t end = std::min(result.err.find('\n', at), result.err.size());
    const std::string line = result.err.substr(at, end - at);
    if (line.find("CONSOLE") != std::string::npos) page.console += line + "\n";
    at = end + 1;
  }
  return page;
}

std::string screenshot(const std::string& url, int width, int height, bool dark, const std::string& png) {
  const TempDir profile;
  const auto result = run(profile, width, height, scheme(dark) + " --screenshot='" + png + "' '" + url + "'");
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  const auto bytes = read_text_file(png);
  REQUIRE_OK(bytes);
  return *bytes;
}

std::string between(const std::string& text, const std::string& from, const std::string& to) {
  const auto begin = text.find(from);
  if (begin == std::string::npos) return {};
  const auto end = text.find(to, begin + from.size());
  if (end == std::string::npos) return {};
  return text.substr(begin + from.size(), end - begin - from.size());
}

Looks look_at(const std::string& html, const std::string& folder, int width, bool dark) {
  std::string probed = html;
  const std::string policy = "<meta http-equiv=\"Content-Security-Policy\"";
  const auto at = probed.find(policy);
  REQUIRE(at != std::string::npos);
  probed.erase(at, probed.find('>', at) + 1 - at);
  probed.insert(probed.rfind("</body>"), kProbe);
  REQUIRE_OK(write_file_durably(folder + "/probed.html", probed));
  // A window is at least 500 pixels wide; a frame may be as narrow as a phone.
  const std::string frame = folder + "/frame.html";
  REQUIRE_OK(write_file_durably(
      frame,
      "<!doctype html><html><body style='margin:0'><pre id=\"probe\"></pre><script>addEventListener('message', e => "
      "{ document.getElementById('probe').textContent = e.data; })</script><iframe src='probed.html' width='" +
          std::to_string(width) + "' height='1600' style='border:0'></iframe></body></html>"));
  const Page page = open_page("file://" + frame, std::max(width, 600), 1700, dark);
  CHECK_MESSAGE(page.console.empty(), page.console);
  const auto found = formats::Json::parse(without_escapes(between(page.dom, "<pre id=\"probe\">", "</pre>")));
  REQUIRE_OK(found);
  Looks out;
  out.page_width = static_cast<int>(*found->find("page")->items()[0].as_int());
  out.window_width = static_cast<int>(*found->find("page")->items()[1].as_int());
  out.ground = *found->get_double("ground");
  out.contrast = *found->get_double("contrast");
  out.contrast_of = *found->get_string("contrast_of");
  out.smallest_text = *found->get_double("smallest_text");
  out.clipped = strings_of(*found->find("clipped"));
  out.overlapping = strings_of(*found->find("overlapping"));
  for (const auto& one : found->find("drawings")->items()) {
    out.drawings.push_back({*one.get_string("id"), *one.get_double("width"), *one.get_double("longest"),
                            static_cast<int>(*one.get_int("shapes")), *one.get_bool("described")});
  }
  return out;
}

}  // namespace covey::test
