// Encodes texts with @huggingface/tokenizers: node encode.mjs NODE_MODULES TOKENIZER.json TEXTS.json REPEAT
// TEXTS: [string]. Prints {"ids": [[...]], "decoded": [...], "seconds": best time of REPEAT runs over all texts}.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [modules, file, texts_file, repeat] = process.argv.slice(2);
const { Tokenizer } = createRequire(resolve(modules, "x.js"))("@huggingface/tokenizers");
const tokenizer = new Tokenizer(JSON.parse(readFileSync(file, "utf8")), {});
const texts = JSON.parse(readFileSync(texts_file, "utf8"));
const encode = () => texts.map((text) => tokenizer.encode(text, { add_special_tokens: false }).ids);
let seconds = Infinity;
let ids;
for (let i = 0; i < Number(repeat); ++i) {
  const started = process.cpuUsage();
  ids = encode();
  const used = process.cpuUsage(started);
  seconds = Math.min(seconds, (used.user + used.system) / 1e6);
}
const decoded = ids.length > 1 ? ids.map((list) => list.length === 0 ? "" : tokenizer.decode(list, { skip_special_tokens: false, clean_up_tokenization_spaces: false })) : [];
process.stdout.write(JSON.stringify({ ids, decoded, seconds }));
