// Asks an emulator through the Vercel AI SDK, and prints what was understood.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const provider = (apiKey) =>
  createOpenAICompatible({
    name: "tokenhub",
    baseURL: `${process.argv[2]}/v1`,
    apiKey,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
const model = provider("any")("hy3");
const sum = { model, prompt: "计算 1+1", maxRetries: 0 };
const weather = tool({
  description: "获取指定城市的天气信息",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `${city}：晴`,
});
const agent = {
  model,
  prompt: "北京今天天气怎么样?",
  tools: { get_weather: weather },
  stopWhen: stepCountIs(3),
  maxRetries: 0,
};
const calls = (steps) => steps.flatMap((step) => step.toolCalls.map((call) => call.input));

async function refused(more) {
  try {
    await generateText({ ...sum, ...more });
  } catch (error) {
    return APICallError.isInstance(error) ? error.statusCode : String(error);
  }
}

const whole = await generateText(sum);
const stream = streamText(sum);
const object = await generateObject({
  model,
  schema: z.object({ name: z.string(), population: z.number() }),
  prompt: "北京有多少人口？",
  maxRetries: 0,
});
console.log(
  JSON.stringify({
    text: whole.text,
    thinks: Boolean(whole.reasoningText),
    tokens: whole.usage.totalTokens,
    streamed: await stream.text,
    streamed_tokens: (await stream.usage).totalTokens,
    calls: calls((await generateText(agent)).steps),
    streamed_calls: calls(await streamText(agent).steps),
    object: Object.keys(object.object).sort(),
    wrong_key: await refused({ model: provider("wrong")("hy3") }),
    no_model: await refused({ model: provider("any")("unknown-1") }),
  }),
);
