// The request that was just sent, as a program would send it.

export function snippets(path, body) {
  const url = `${location.origin}${path}`;
  const json = JSON.stringify(body, null, 2);
  const quoted = json.replaceAll("'", "'\\''");
  return [
    ["curl", `curl ${url} \\\n  -H 'Content-Type: application/json' \\\n  -d '${quoted}'`],
    ["Python", `import json\nimport urllib.request\n\nbody = json.loads(r"""${JSON.stringify(body).replaceAll('"""', '\\"\\"\\"')}""")\n`
      + `request = urllib.request.Request("${url}", json.dumps(body).encode(), {"Content-Type": "application/json"})\n`
      + "print(json.load(urllib.request.urlopen(request)))"],
    ["Node", `const response = await fetch("${url}", {\n  method: "POST",\n  headers: { "Content-Type": "application/json" },\n`
      + `  body: JSON.stringify(${json}),\n});\nconsole.log(await response.json());`],
  ];
}
