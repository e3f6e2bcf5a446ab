// Renders chat templates with @huggingface/jinja: node render_chat.mjs NODE_MODULES REQUEST.json
// REQUEST: [{template, messages, bos_token, eos_token, add_generation_prompt}]; prints [{text} or {error}], in order.
// Two things are changed first: today's date is no part of what we compare, so its function goes by a name that nobody
// knows; and the package refuses to loop over calls that a message does not have, which Jinja2 takes for none.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [modules, request] = process.argv.slice(2);
const { Template } = createRequire(resolve(modules, "x.js"))("@huggingface/jinja");
const changed = (template) =>
  template.replaceAll("strftime_now", "no_date").replaceAll("in message.tool_calls -%}", "in message.tool_calls or [] -%}");
const compiled = new Map();
const answers = JSON.parse(readFileSync(request, "utf8")).map(({ template, ...values }) => {
  if (!compiled.has(template)) compiled.set(template, new Template(changed(template)));
  try {
    return { text: compiled.get(template).render(values) };
  } catch (error) {
    return { error: String(error.message) };
  }
});
process.stdout.write(JSON.stringify(answers));
