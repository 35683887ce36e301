// The referral loop with fhir-kit-client.

import assert from "node:assert/strict";
import { Client } from "fhir-kit-client";
import * as service from "./service.mjs";

const practice = new Client({ baseUrl: service.FHIR, bearerToken: await service.token("practice") });
const coach = new Client({ baseUrl: service.FHIR, bearerToken: await service.token("coach") });

const smart = await practice.smartAuthMetadata().catch(() => null);
assert.ok(smart === null || String(smart.tokenUrl ?? smart.token_endpoint ?? "").endsWith("/oauth/token"));

// Refer, and again as a system that did not hear the answer.
const sent = service.referral();
const referral = await practice.create({ resourceType: "ServiceRequest", body: sent });
const again = await practice.create({ resourceType: "ServiceRequest", body: sent });
assert.equal(again.id, referral.id);
const status = () =>
  practice.operation({ name: "$status", resourceType: "ServiceRequest", id: referral.id, method: "GET" });
const before = service.said(await status(), "state");

// Claim as a coach, record, complete.
const task = await coach.operation({
  name: "$claim-next", resourceType: "Task", input: service.parameters({ role: "health-coach" }),
});
assert.equal(task.status, "accepted");
assert.equal(task.focus.reference, `ServiceRequest/${referral.id}`);
const subject = task.for;
const basedOn = [{ reference: task.focus.reference }];
const encounter = await coach.create({
  resourceType: "Encounter", body: service.resource("encounter", { subject, basedOn }),
});
const pam = service.resource("pam", { subject, encounter: { reference: `Encounter/${encounter.id}` } });
const observation = await coach.create({ resourceType: "Observation", body: pam });
const current = await coach.read({ resourceType: "Task", id: task.id });
const done = await coach.operation({
  name: "$complete", resourceType: "Task", id: task.id, input: service.parameters({ outcome: "accepted" }),
  options: { headers: { "If-Match": `W/"${current.meta.versionId}"` } },
});
assert.equal(done.status, "completed");
assert.notEqual(service.said(await status(), "state"), before);

// Search, as the practice sees it.
const found = await practice.search({
  resourceType: "Encounter", searchParams: { "based-on": `ServiceRequest/${referral.id}` },
});
assert.deepEqual(found.entry.map((one) => one.resource.id), [encounter.id]);
const seen = await practice.read({ resourceType: "Observation", id: observation.id });
assert.equal(seen.valueQuantity.value, 56.4);

// Conditional create: twice, and there is one.
const [document, criteria] = service.document();
const once = () => practice.create({
  resourceType: "DocumentReference", body: document, options: { headers: { "If-None-Exist": criteria } },
});
const first = await once();
assert.equal((await once()).id, first.id);

// Change by PUT, and by PATCH where the service says that it takes it.
await practice.update({ resourceType: "DocumentReference", id: first.id, body: { ...first, description: "Changed" } });
assert.equal((await practice.read({ resourceType: "DocumentReference", id: first.id })).description, "Changed");
if (service.patches(await practice.capabilityStatement(), "DocumentReference")) {
  const jsonPatch = [{ op: "replace", path: "/description", value: "Patched" }];
  const patched = await practice.patch({ resourceType: "DocumentReference", id: first.id, jsonPatch });
  assert.equal(patched.description, "Patched");
}

// Paging: everything once.
const made = [referral.id];
for (let n = 0; n < 4; n += 1) {
  made.push((await practice.create({ resourceType: "ServiceRequest", body: service.referral() })).id);
}
const pages = [];
let bundle = await practice.search({ resourceType: "ServiceRequest", searchParams: { _count: "2" } });
while (bundle) {
  pages.push(...(bundle.entry ?? []).map((one) => one.resource.id));
  bundle = await practice.nextPage({ bundle });
}
assert.equal(new Set(pages).size, pages.length);
for (const id of made) assert.ok(pages.includes(id));

await assert.rejects(practice.read({ resourceType: "Encounter", id: "nobody" }));
console.log("fhir-kit-client: the loop is walked");
