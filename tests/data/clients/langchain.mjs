// Asks an emulator through LangChain.js, and prints what was understood.
import { ChatOpenAI } from "@langchain/openai";
import { tool } from "@langchain/core/tools";
import { z } from "zod";

const make = (more = {}) =>
  new ChatOpenAI({
    model: "hy3",
    apiKey: "any",
    maxRetries: 0,
    configuration: { baseURL: `${process.argv[2]}/v1` },
    ...more,
  });
const weather = tool(async ({ city }) => `${city}：晴`, {
  name: "get_weather",
  description: "获取指定城市的天气信息",
  schema: z.object({ city: z.string() }),
});
const model = make();
const city = model.bindTools([weather]);

async function gathered(chunks) {
  let whole;
  for await (const chunk of chunks) whole = whole ? whole.concat(chunk) : chunk;
  return whole;
}

async function refused(more) {
  try {
    await make(more).invoke("计算 1+1");
  } catch (error) {
    return error.status;
  }
}

const whole = await model.invoke("计算 1+1");
const streamed = await gathered(await model.stream("计算 1+1"));
const question = "北京今天天气怎么样?";
const object = await model
  .withStructuredOutput(z.object({ name: z.string(), population: z.number() }))
  .invoke("北京有多少人口？");
console.log(
  JSON.stringify({
    text: whole.content,
    thinks: whole.usage_metadata.output_token_details.reasoning > 0,
    tokens: whole.usage_metadata.total_tokens,
    streamed: streamed.content,
    streamed_tokens: streamed.usage_metadata.total_tokens,
    calls: (await city.invoke(question)).tool_calls.map((call) => call.args),
    streamed_calls: (await gathered(await city.stream(question))).tool_calls.map((call) => call.args),
    object: Object.keys(object).sort(),
    wrong_key: await refused({ apiKey: "wrong" }),
    no_model: await refused({ model: "unknown-1" }),
  }),
);
