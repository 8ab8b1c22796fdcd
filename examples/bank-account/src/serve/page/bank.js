// What is asked of the bank.

export class Refused extends Error {
  constructor(problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

export async function ask(path) {
  return answer(await fetch(path, { headers: { accept: "application/json" } }));
}

// Asks for a change. It has one key however often it is sent, so that a lost answer does no harm.
export async function change(method, path, body, ifMatch) {
  const headers = { "idempotency-key": key() };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (ifMatch !== undefined) headers["if-match"] = `"${ifMatch}"`;
  const request = { method, headers, body: body === undefined ? undefined : JSON.stringify(body) };
  for (let attempt = 1; ; attempt += 1) {
    try {
      const response = await fetch(path, request);
      if (response.status !== 503 || attempt === 5) return await answer(response);
    } catch (error) {
      if (error instanceof Refused || attempt === 5) throw error;
    }
    await new Promise((go) => setTimeout(go, 200 * 2 ** attempt));
  }
}

export const accountPath = (id) => `/v1/accounts/${encodeURIComponent(id)}`;

async function answer(response) {
  const body = await response.json();
  if (!response.ok) throw new Refused(body);
  return body;
}

function key() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
