// Holds a conversation through a TypeScript SDK and prints the results as JSON: node conversation.cjs PLAN
//
// PLAN: sdk ("v1" supports revisions up to 2025-11-25, "v2" also 2026-07-28), packages (a node_modules folder), and either
// url with token, or command with environment.

const { createRequire } = require("node:module");

const plan = JSON.parse(process.argv[2]);
const load = createRequire(`${plan.packages}/conversation.cjs`);

function connection() {
  const v1 = plan.sdk === "v1";
  const { Client } = v1 ? load("@modelcontextprotocol/sdk/client/index.js") : load("@modelcontextprotocol/client");
  const identity = { name: `typescript-${plan.sdk}`, version: "1" };
  const client = v1 ? new Client(identity) : new Client(identity, { versionNegotiation: { mode: "auto" } });
  if (plan.url) {
    const { StreamableHTTPClientTransport } = v1
      ? load("@modelcontextprotocol/sdk/client/streamableHttp.js")
      : load("@modelcontextprotocol/client");
    const headers = plan.token ? { Authorization: `Bearer ${plan.token}` } : {};
    return [client, new StreamableHTTPClientTransport(new URL(plan.url), { requestInit: { headers } })];
  }
  const { StdioClientTransport } = v1
    ? load("@modelcontextprotocol/sdk/client/stdio.js")
    : load("@modelcontextprotocol/client/stdio");
  return [client, new StdioClientTransport({ command: plan.command, args: ["stdio"], env: plan.environment })];
}

async function talk() {
  const [client, transport] = connection();
  await client.connect(transport);
  const seen = { server: client.getServerVersion(), instructions: client.getInstructions() };
  seen.tools = (await client.listTools()).tools.map((tool) => tool.name);
  // The SDK validates the results against the output schema.
  const call = (name, args) => client.callTool({ name, arguments: args });
  const items = [{ content: `Ada met ${plan.sdk} at the harbour.`, tags: ["harbour"] }];
  seen.stored = (await call("remember", { items })).structuredContent;
  seen.found = (await call("recall", { query: "harbour" })).structuredContent;
  seen.refused = await call("recall", { limit: 0 });
  seen.prompts = (await client.listPrompts()).prompts.map((prompt) => prompt.name);
  const start = await client.getPrompt({ name: "session_start", arguments: { task: "harbour" } });
  seen.prompt = start.messages[0].content.text;
  seen.resources = (await client.listResources()).resources.map((resource) => resource.uri);
  const id = seen.stored.memories[0].id;
  seen.read = (await client.readResource({ uri: `memory://${id}` })).contents[0].text;
  const ref = { type: "ref/prompt", name: "session_start" };
  seen.completed = (await client.complete({ ref, argument: { name: "tag", value: "har" } })).completion.values;
  await client.close();
  return seen;
}

talk().then(
  (seen) => process.stdout.write(JSON.stringify(seen)),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
