// What each client of ours brings besides its library: keys, a token by signed assertion, and what to send.
//
// The folder in LIVEWELL_WORK holds practice.pem, coach.pem and the resources to send; LIVEWELL_BASE is the origin.

import { createPrivateKey, randomUUID, sign } from "node:crypto";
import { readFileSync } from "node:fs";

export const BASE = process.env.LIVEWELL_BASE;
export const FHIR = `${BASE}/fhir`;
const file = (name) => readFileSync(`${process.env.LIVEWELL_WORK}/${name}`, "utf8");
const base64url = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** An access token by signed assertion (SMART Backend Services). */
export async function token(client) {
  const endpoint = `${BASE}/oauth/token`;
  const now = Math.floor(Date.now() / 1000);
  const head = base64url({ alg: "ES384", typ: "JWT", kid: client });
  const claims = base64url({ iss: client, sub: client, aud: endpoint, iat: now, exp: now + 240, jti: randomUUID() });
  const key = { key: createPrivateKey(file(`${client}.pem`)), dsaEncoding: "ieee-p1363" };
  const signature = sign("sha384", Buffer.from(`${head}.${claims}`), key).toString("base64url");
  const body = new URLSearchParams({
    grant_type: "client_credentials",
    scope: "system/*.cruds",
    client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    client_assertion: `${head}.${claims}.${signature}`,
  });
  const answer = await fetch(endpoint, { method: "POST", body });
  return (await answer.json()).access_token;
}

/** A resource to send, with some elements changed. */
export const resource = (name, changes = {}) => ({ ...JSON.parse(file(`${name}.json`)), ...changes });

/** A referral with a business identifier of its own. */
export const referral = () =>
  resource("referral", { identifier: [{ system: "https://practice.example/Id/referral", value: randomUUID() }] });

/** Operation parameters that are codes. */
export const parameters = (codes) => ({
  resourceType: "Parameters",
  parameter: Object.entries(codes).map(([name, valueCode]) => ({ name, valueCode })),
});

/** A parameter of $status. */
export function said(status, name) {
  const part = status.parameter.find((one) => one.name === name);
  return part && Object.entries(part).find(([key]) => key.startsWith("value"))[1];
}

/** Whether the service says that it patches resources of this type. */
export const patches = (statement, type) =>
  statement.rest[0].resource.find((one) => one.type === type).interaction.some((one) => one.code === "patch");

/** A document, and the identifier that only it has. */
export function document() {
  const identifier = { system: "https://practice.example/Id/document", value: randomUUID() };
  return [resource("document", { identifier: [identifier] }), `identifier=${identifier.system}|${identifier.value}`];
}
