// Requests to the server that this page came from.

export class ApiError extends Error {
  constructor(status, { message, param, code }, seconds = 0) {
    super(message);
    Object.assign(this, { status, param, code, seconds });
  }
}

export async function get(path) {
  return send(path, {});
}

export async function post(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  return send(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

// Send a file's bytes to be read as a table; returns { columns, rows: [{ name: text }], faults: { row number: message }, form },
// where form says how a CSV file is written that the same spreadsheet program opens: { delimiter, bom, utf16, decimalComma }.
export async function readOnServer(file) {
  const headers = { "Content-Type": "application/octet-stream" };
  const { columns, rows, errors, delimiter, bom, utf16, decimal_comma: decimalComma } = await send(`/v1/tables?name=${encodeURIComponent(file.name.slice(-200))}`, { method: "POST", headers, body: file });
  const faults = Object.fromEntries(errors.map(({ row, message }) => [row, message]));
  return { columns, rows: rows.map((cells) => Object.fromEntries(columns.map((column, place) => [column, cells[place]]))), faults, form: { delimiter, bom, utf16, decimalComma } };
}

async function send(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "The server does not answer. Is it still running?" });
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new ApiError(response.status, body?.error ?? { message: `HTTP ${response.status}` }, Number(response.headers.get("Retry-After")));
  return body;
}
