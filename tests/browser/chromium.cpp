#include <algorithm>

#include "browser/chromium.h"

#include "core/base/file.h"
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

}  // namespace

Page open_page(const std::string& url, int width, int height) {
  const TempDir profile;
  const auto result = run(profile, width, height, "--dump-dom '" + url + "'");
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
  // Blink's numbers: 0 dark, 1 light.
  const auto result = run(profile, width, height,
                          std::string("--blink-settings=preferredColorScheme=") + (dark ? "0" : "1") +
                              " --screenshot='" + png + "' '" + url + "'");
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

std::string probe_script() {
  return R"(<script>
setTimeout(() => {
  const lines = [];
  for (const canvas of document.querySelectorAll("canvas")) {
    const { width, height } = canvas;
    const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    let coloured = 0;
    for (let i = 0; i < pixels.length; i += 4) {
      const [r, g, b, a] = pixels.slice(i, i + 4);
      if (a > 150 && Math.max(r, g, b) - Math.min(r, g, b) > 40) ++coloured;
    }
    lines.push(`${canvas.id} ${width} ${height} ${coloured}`);
  }
  lines.push(`page ${document.documentElement.scrollWidth} ${window.innerWidth}`);
  const probe = document.createElement("pre");
  probe.id = "probe";
  probe.textContent = lines.join("\n");
  document.body.append(probe);
}, 1500);
</script>)";
}

}  // namespace covey::test
