// Reads a review a line, and prints what the customer thinks: node example-till.js [COMMAND...]
import { createInterface } from "node:readline";
import { Client } from "./index.js";

const ENOUGH = 0.8; // below it a person decides

const command = process.argv.length > 2 ? process.argv.slice(2) : undefined;
const client = await Client.start({ command }).catch(({ message }) => {
  console.error(message);
  process.exit(1);
});
for await (const review of createInterface({ input: process.stdin })) {
  try {
    const { text, probability, abstained } = await client.ask("sentiment_analysis", { review }, { timeout: 30_000 });
    const advice = abstained || probability < ENOUGH ? "  ask a person" : "";
    console.log(`${text ?? "not sure"}  ${probability.toFixed(2)}${advice}`);
  } catch (error) {
    console.log(`no answer (${error.code}): ${error.message}  ask a person`);
  }
}
await client.close();
