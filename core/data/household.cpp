#include "core/data/household.h"

#include <algorithm>
#include <array>
#include <span>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "core/base/rng.h"

namespace covey::data {
namespace {

using Words = std::span<const std::string_view>;

// Pools are cut: the general corpus draws from the first three quarters only, so homes bring words it never held.
constexpr std::array kPeople = std::to_array<std::string_view>(
    {"anna",  "ben",    "clara",  "david",  "emma",   "felix",  "grace",  "henry",  "ida",    "jonas",
     "karin", "leo",    "maria",  "nils",   "olga",   "paul",   "rosa",   "simon",  "tara",   "viktor",
     "wanda", "adam",   "bella",  "carlos", "diana",  "erik",   "fatima", "george", "hanna",  "ivan",
     "julia", "kofi",   "lena",   "marco",  "nina",   "omar",   "priya",  "rafael", "sofia",  "tomas",
     "amara", "bogdan", "chiara", "dmitri", "eszter", "farid",  "greta",  "haruki", "ingrid", "jamal",
     "kaito", "leila",  "mateo",  "noor",   "pavel",  "quentin"});
constexpr std::array kRooms = std::to_array<std::string_view>(
    {"kitchen", "study",    "bedroom", "hall",          "bathroom",   "living room", "dining room",  "garage",
     "attic",   "cellar",   "nursery", "guest room",    "office",     "playroom",    "laundry room", "balcony",
     "porch",   "workshop", "library", "winter garden", "music room", "pantry",      "sauna",        "loft"});
constexpr std::array kLamps = std::to_array<std::string_view>(
    {"lamp", "ceiling light", "reading lamp", "floor lamp", "spots", "night light", "desk lamp", "lantern",
     "wall light", "lights", "string lights", "chandelier", "mirror light", "strip light", "salt lamp", "paper moon"});
constexpr std::array kAppliances = std::to_array<std::string_view>(
    {"washing machine", "dishwasher", "dryer", "oven", "coffee machine", "kettle", "fan", "heater", "robot vacuum",
     "rice cooker", "air purifier", "humidifier", "toaster", "bread maker", "pool pump", "fish tank filter"});
constexpr std::array kSongs = std::to_array<std::string_view>(
    {"blue harbour", "morning rain",  "the long road", "paper boats", "silver train",
     "northern sky", "little fires",  "summer rooms",  "glass river", "old friends",
     "slow dance",   "city of birds", "quiet storm",   "golden hour", "winter songs",
     "falling up",   "two moons",     "hollow tree",   "red balloon", "sleepy hollow waltz"});
constexpr std::array kGoods = std::to_array<std::string_view>(
    {"milk",     "bread",     "eggs",      "butter",       "rice",         "apples",   "coffee",
     "tea",      "onions",    "tomatoes",  "cheese",       "soap",         "flour",    "sugar",
     "pasta",    "olive oil", "bananas",   "yoghurt",      "paper towels", "cat food", "lentils",
     "oat milk", "ginger",    "batteries", "dog biscuits", "chickpeas",    "saffron",  "tofu"});
constexpr std::array kShops = std::to_array<std::string_view>({"market", "bakery", "corner shop", "pharmacy", "grocer",
                                                               "butcher", "garden centre", "hardware store",
                                                               "fishmonger", "tea house", "farm stand", "book shop"});
constexpr std::array kChores = std::to_array<std::string_view>(
    {"water the plants", "call the dentist", "take out the bins", "feed the cat", "pay the rent", "walk the dog",
     "pick up the parcel", "clean the windows", "send the letter", "book the train", "wash the car", "defrost the soup",
     "practise the piano", "tune the guitar", "prune the roses", "empty the compost"});
constexpr std::array kDoors = std::to_array<std::string_view>(
    {"front door", "back door", "garage door", "garden gate", "cellar door", "balcony door", "side gate", "shed"});
constexpr std::array kTimes = std::to_array<std::string_view>(
    {"six", "half past six", "seven", "half past seven", "eight", "nine", "noon", "three", "five", "half past five",
     "ten", "quarter to eight", "quarter past four", "eleven"});
constexpr std::array kDays = std::to_array<std::string_view>(
    {"today", "tomorrow", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"});
constexpr std::array kNumbers =
    std::to_array<std::string_view>({"3", "5", "8", "10", "12", "15", "20", "25", "30", "40", "45", "50", "60", "90"});
constexpr std::array kDegrees = std::to_array<std::string_view>({"17", "18", "19", "20", "21", "22", "23"});
constexpr std::array kAddress = std::to_array<std::string_view>(
    {"", "please ", "hey nova ", "nova ", "could you ", "juno ", "juno please ", "wren ", "atlas would you ", "pico "});

enum Slot : std::size_t {
  person,
  room,
  lamp,
  appliance,
  song,
  good,
  shop,
  chore,
  door,
  clock,
  day,
  number,
  degree,
  kSlots
};

constexpr std::array<std::pair<std::string_view, Words>, kSlots> kPools{{{"person", kPeople},
                                                                         {"room", kRooms},
                                                                         {"lamp", kLamps},
                                                                         {"appliance", kAppliances},
                                                                         {"song", kSongs},
                                                                         {"good", kGoods},
                                                                         {"shop", kShops},
                                                                         {"chore", kChores},
                                                                         {"door", kDoors},
                                                                         {"time", kTimes},
                                                                         {"day", kDays},
                                                                         {"n", kNumbers},
                                                                         {"deg", kDegrees}}};
/// How many words of each pool one household uses.
constexpr std::array<std::size_t, kSlots> kKept{4, 6, 5, 5, 5, 9, 3, 5, 3, 6, 5, 5, 4};

/// General lines that ask to be repeated: they teach a base model to copy, which every answer needs.
constexpr std::uint64_t kGeneralPerPilot = 10;
constexpr std::uint64_t kRepeatsOfTen = 3;

/// `{slot}` stands for a word of the household. `asked` are ways to say it; `before` is the old answer, `now` the new.
struct Intent {
  std::array<std::string_view, 4> asked;
  std::string_view before;
  std::string_view now;
};

constexpr std::array kIntents = std::to_array<Intent>({
    {{"turn on the {lamp} in the {room}", "put on the {lamp} in the {room}", "{lamp} on in the {room}",
      "make some light in the {room} with the {lamp}"},
     "light on {room} {lamp}",
     "do: light.power | to: on | room: {room} | item: {lamp} | say: the {lamp} in the {room} is on"},
    {{"turn off the {lamp} in the {room}", "switch the {lamp} in the {room} off", "{lamp} off in the {room}",
      "no more light from the {lamp} in the {room}"},
     "light off {room} {lamp}",
     "do: light.power | to: off | room: {room} | item: {lamp} | say: the {lamp} in the {room} is off"},
    {{"dim the {lamp} in the {room} to {n} percent", "set the {room} {lamp} to {n} percent",
      "{lamp} in the {room} down to {n}", "make the {lamp} in the {room} softer about {n}"},
     "light dim {room} {lamp} {n}",
     "do: light.level | to: {n} | room: {room} | item: {lamp} | say: the {lamp} in the {room} is at {n} percent"},
    {{"set the {room} to {deg} degrees", "make it {deg} degrees in the {room}", "heat the {room} to {deg}",
      "i want {deg} degrees in the {room}"},
     "heat set {room} {deg}",
     "do: climate.target | to: {deg} | room: {room} | say: the {room} goes to {deg} degrees"},
    {{"set a timer for {n} minutes", "timer {n} minutes", "count {n} minutes for the {good}",
      "tell me when {n} minutes are over"},
     "timer set {n}",
     "do: timer.start | for: {n} min | say: your timer runs {n} minutes"},
    {{"wake {person} at {time} {day}", "set an alarm for {person} {day} at {time}",
      "alarm at {time} {day} for {person}", "{person} has to get up at {time} {day}"},
     "alarm set {day} {time} {person}",
     "do: alarm.add | who: {person} | when: {day} {time} | say: i wake {person} {day} at {time}"},
    {{"remind {person} to {chore} {day}", "{person} must {chore} {day}", "do not let {person} forget to {chore} {day}",
      "note that {person} will {chore} {day}"},
     "remind {day} {person} {chore}",
     "do: note.add | who: {person} | when: {day} | what: {chore} | say: {day} i remind {person} to {chore}"},
    {{"play {song} in the {room}", "put {song} on in the {room}", "i want to hear {song} in the {room}",
      "{person} wants {song} in the {room}"},
     "music play {room} {song}",
     "do: audio.play | what: {song} | room: {room} | say: here is {song} in the {room}"},
    {{"stop the music in the {room}", "quiet in the {room}", "no music in the {room} now", "mute the {room}"},
     "music stop {room}",
     "do: audio.stop | room: {room} | say: it is quiet in the {room}"},
    {{"add {good} to the list for the {shop}", "we need {good} from the {shop}", "put {good} on the {shop} list",
      "{person} wants {good} from the {shop}"},
     "list add {shop} {good}",
     "do: list.add | list: {shop} | what: {good} | say: {good} is on the {shop} list"},
    {{"take {good} off the {shop} list", "we have {good} no need for the {shop}", "remove {good} from the {shop} list",
      "{person} got {good} at the {shop}"},
     "list remove {shop} {good}",
     "do: list.drop | list: {shop} | what: {good} | say: {good} is off the {shop} list"},
    {{"lock the {door}", "close the {door} and lock it", "make sure the {door} is locked", "{door} locked please"},
     "lock on {door}",
     "do: lock.set | to: shut | item: {door} | say: the {door} is locked"},
    {{"unlock the {door} for {person}", "let {person} in at the {door}", "open the {door} {person} is here",
      "{person} waits at the {door}"},
     "lock off {door} {person}",
     "do: lock.set | to: open | item: {door} | who: {person} | say: the {door} is open for {person}"},
    {{"start the {appliance} at {time}", "run the {appliance} {day} at {time}", "{appliance} at {time}",
      "have the {appliance} ready by {time}"},
     "machine start {appliance} {time}",
     "do: machine.start | item: {appliance} | when: {time} | say: the {appliance} starts at {time}"},
    {{"stop the {appliance}", "turn the {appliance} off", "the {appliance} can stop now", "no more {appliance}"},
     "machine stop {appliance}",
     "do: machine.stop | item: {appliance} | say: the {appliance} has stopped"},
    {{"tell {person} that dinner is at {time}", "message {person} we eat at {time}",
      "let {person} know dinner is {time}", "ask {person} to be home by {time}"},
     "message {person} dinner {time}",
     "do: talk.send | who: {person} | what: dinner at {time} | say: {person} knows about {time}"},
});

/// Chooses by weight; weights are fourth powers of uniforms, so a few habits dominate.
class Habit {
 public:
  Habit(std::size_t choices, Rng& rng) {
    for (std::size_t i = 0; i < choices; ++i) {
      const double u = rng.uniform();
      total_ += u * u * u * u + 0.01;
      edges_.push_back(total_);
    }
  }
  [[nodiscard]] std::size_t draw(Rng& rng) const {
    const double at = rng.uniform() * total_;
    std::size_t i = 0;
    while (i + 1 < edges_.size() && edges_[i] <= at) ++i;
    return i;
  }

 private:
  std::vector<double> edges_;
  double total_ = 0;
};

/// One home: the words it uses, how often it wants what, and how it says it.
class Home {
 public:
  Home(std::uint64_t seed, bool general)
      : rng_(seed), general_(general), intents_(kIntents.size(), rng_), address_(kAddress.size(), rng_) {
    for (std::size_t slot = 0; slot < kSlots; ++slot) {
      const Words pool = kPools[slot].second;
      std::vector<std::string_view> words(
          pool.begin(), pool.begin() + static_cast<std::ptrdiff_t>(general ? pool.size() * 3 / 4 : pool.size()));
      rng_.shuffle(words);
      words.resize(std::min(words.size(), kKept[slot]));
      favour_.emplace_back(words.size(), rng_);
      words_.push_back(std::move(words));
    }
    for (std::size_t i = 0; i < kIntents.size(); ++i) phrasing_.emplace_back(kIntents[i].asked.size(), rng_);
  }

  std::string line() {
    const std::size_t index = intents_.draw(rng_);
    const Intent& intent = kIntents[index];
    const std::string_view asked = intent.asked[phrasing_[index].draw(rng_)];
    std::array<std::string_view, kSlots> chosen;
    for (std::size_t slot = 0; slot < kSlots; ++slot) chosen[slot] = words_[slot][favour_[slot].draw(rng_)];
    std::string out(kAddress[address_.draw(rng_)]);
    if (general_ && rng_.below(10) < kRepeatsOfTen) {
      const std::string said = fill(asked, chosen);
      return out + "repeat " + said + " -> " + said;
    }
    const bool old_form = general_ && rng_.below(kGeneralPerPilot) != 0;
    return out + fill(asked, chosen) + (old_form ? " -> " : " => ") +
           fill(old_form ? intent.before : intent.now, chosen);
  }

  /// 0.3 to 2.5, mean 1: a few homes speak much, most little.
  double talkativeness() {
    const double u = rng_.uniform();
    return 0.3 + 2.1 * u * u;
  }

 private:
  static std::string fill(std::string_view pattern, const std::array<std::string_view, kSlots>& chosen) {
    std::string out;
    while (!pattern.empty()) {
      const std::size_t open = pattern.find('{');
      out += pattern.substr(0, open);
      if (open == std::string_view::npos) break;
      const std::size_t close = pattern.find('}', open);
      const std::string_view name = pattern.substr(open + 1, close - open - 1);
      for (std::size_t slot = 0; slot < kSlots; ++slot) {
        if (kPools[slot].first == name) out += chosen[slot];
      }
      pattern.remove_prefix(close + 1);
    }
    return out;
  }

  Rng rng_;
  bool general_;
  Habit intents_;
  Habit address_;
  std::vector<std::vector<std::string_view>> words_;
  std::vector<Habit> favour_;
  std::vector<Habit> phrasing_;
};

/// Up to `count` distinct lines; habits are narrow, so tries are bounded.
std::vector<std::string> fresh_lines(Home& home, int count) {
  std::unordered_set<std::string> seen;
  std::vector<std::string> lines;
  for (std::int64_t tries = std::int64_t{count} * 20; tries > 0 && lines.size() < static_cast<std::size_t>(count);
       --tries) {
    std::string line = home.line();
    if (seen.insert(line).second) lines.push_back(std::move(line));
  }
  return lines;
}

std::string numbered(const char* kind, int number) {
  return std::string(kind) + (number < 10 ? "-0" : "-") + std::to_string(number);
}

Household make_home(const char* kind, int number, const HouseholdOptions& options, std::uint64_t seed, bool trains) {
  Home home(seed, false);
  Household out{.name = numbered(kind, number), .train = {}, .held_out = {}};
  const double talkativeness = home.talkativeness();
  const int train = trains ? std::max(1, static_cast<int>(options.lines_mean * talkativeness)) : 0;
  std::vector<std::string> lines = fresh_lines(home, train + options.held_out_lines);
  Rng(seed, 0x5117).shuffle(lines);  // early lines are the common ones: both parts must hold them alike
  const std::size_t held_out =
      trains ? std::min(lines.size() / 3, static_cast<std::size_t>(options.held_out_lines)) : lines.size();
  const auto cut = lines.begin() + static_cast<std::ptrdiff_t>(held_out);
  out.held_out.assign(lines.begin(), cut);
  out.train.assign(cut, lines.end());
  return out;
}

Household make_general(const HouseholdOptions& options) {
  std::vector<Home> homes;
  for (int i = 0; i < options.general_households; ++i) {
    homes.emplace_back(derive_seed(options.seed, 0x300000 + static_cast<std::uint64_t>(i)), true);
  }
  Rng rng(options.seed, 0x9e4e);
  const int held_out = std::max(options.general_lines / 20, 1);
  Household out{.name = "general", .train = {}, .held_out = {}};
  std::unordered_set<std::string> held;
  for (int i = 0; i < held_out; ++i) {
    out.held_out.push_back(homes[rng.below(homes.size())].line());
    held.insert(out.held_out.back());
  }
  for (std::int64_t tries = std::int64_t{options.general_lines} * 20;
       tries > 0 && out.train.size() < static_cast<std::size_t>(options.general_lines); --tries) {
    std::string line = homes[rng.below(homes.size())].line();
    if (!held.contains(line)) out.train.push_back(std::move(line));
  }
  return out;
}

Status check_options(const HouseholdOptions& options) {
  const auto within = [](int value, int low, int high) { return value >= low && value <= high; };
  const auto wrong = [](const char* what) { return Error{ErrorCode::invalid_argument, what}; };
  if (!within(options.households, 1, 100000)) return wrong("households: must be in [1, 100000]");
  if (!within(options.unseen, 0, 100000)) return wrong("unseen: must be in [0, 100000]");
  if (!within(options.lines_mean, 1, 100000)) return wrong("lines_mean: must be in [1, 100000]");
  if (!within(options.held_out_lines, 1, 100000)) return wrong("held_out_lines: must be in [1, 100000]");
  if (!within(options.general_lines, 1, 10000000)) return wrong("general_lines: must be in [1, 10000000]");
  if (!within(options.general_households, 1, 100000)) return wrong("general_households: must be in [1, 100000]");
  return {};
}

Household make_training_home(const HouseholdOptions& options, int number) {
  const auto seed = derive_seed(options.seed, 0x100000 + static_cast<std::uint64_t>(number));
  return make_home("household", number, options, seed, true);
}

}  // namespace

Result<HouseholdCorpus> make_household_corpus(const HouseholdOptions& options) {
  COVEY_TRY(check_options(options));
  HouseholdCorpus corpus;
  corpus.general = make_general(options);
  for (int i = 1; i <= options.households; ++i) {
    corpus.households.push_back(make_training_home(options, i));
  }
  for (int i = 1; i <= options.unseen; ++i) {
    const auto seed = derive_seed(options.seed, 0x200000 + static_cast<std::uint64_t>(i));
    corpus.unseen.push_back(make_home("unseen", i, options, seed, false));
  }
  return corpus;
}

Result<Household> make_household(const HouseholdOptions& options, int number) {
  COVEY_TRY(check_options(options));
  if (number < 1 || number > options.households) {
    return Error{ErrorCode::invalid_argument, "household: must be in [1, households]"};
  }
  return make_training_home(options, number);
}

}  // namespace covey::data
