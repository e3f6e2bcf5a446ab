// What a real llama.cpp computes: node llama_judge.mjs NODE_MODULES REQUEST.json
// REQUEST: [{model, lora, prompts: [[id]], tokens, texts: [[id]], strings: [text]}]. Prints for each {greedy: [[id]],
// logits: [id: value of the first prompt's last token], nll: [sum over each text's ids but the first], ids: [[id] of each
// string, without bos]}.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { resolve } from "node:path";

const [modules, request] = process.argv.slice(2);
const entry = createRequire(resolve(modules, "x.js")).resolve("node-llama-cpp");
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(entry).href);
const llama = await getLlama({ gpu: false, build: "never", maxThreads: 1, logLevel: LlamaLogLevel.error });

/** Logits after the last of `ids`, or after each of them, as maps from id to value. */
async function evaluate(sequence, ids, each = false) {
  const items = ids.map((id, i) => (each || i === ids.length - 1 ? [id, { generateNext: { logits: true } }] : id));
  const rows = (await sequence.controlledEvaluate(items)).map((row) => row?.next.logits);
  return each ? rows : rows.at(-1);
}

function best(logits) {
  let token = -1;
  for (const [id, value] of logits) {
    const top = token < 0 ? -Infinity : logits.get(token);
    if (value > top || (value === top && id < token)) token = id;
  }
  return token;
}

function minusLogProbability(logits, token) {
  const top = logits.get(best(logits));
  let total = 0;
  for (const value of logits.values()) total += Math.exp(value - top);
  return top + Math.log(total) - logits.get(token);
}

async function judge({ model: modelPath, lora, prompts = [], tokens = 0, texts = [], strings = [] }) {
  const model = await llama.loadModel({ modelPath, gpuLayers: 0 });
  const context = await model.createContext({
    contextSize: 256, threads: 1, flashAttention: false, lora: lora || undefined,
    experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32"
  });
  const sequence = context.getSequence();
  const answer = { greedy: [], logits: {}, nll: [], ids: strings.map((text) => model.tokenize(text, false)) };
  for (const prompt of prompts) {
    await sequence.clearHistory();
    let logits = await evaluate(sequence, prompt);
    if (answer.greedy.length === 0) answer.logits = Object.fromEntries(logits);
    const out = [];
    while (out.length < tokens) {
      out.push(best(logits));
      if (out.length < tokens) logits = await evaluate(sequence, [out.at(-1)]);
    }
    answer.greedy.push(out);
  }
  for (const text of texts) {
    await sequence.clearHistory();
    const rows = await evaluate(sequence, text.slice(0, -1), true);
    answer.nll.push(rows.reduce((sum, logits, i) => sum + minusLogProbability(logits, text[i + 1]), 0));
  }
  await context.dispose();
  await model.dispose();
  return answer;
}

const answers = [];
for (const item of JSON.parse(readFileSync(request, "utf8"))) answers.push(await judge(item));
process.stdout.write(JSON.stringify(answers));
await llama.dispose();
