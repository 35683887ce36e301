// The referral loop with Medplum's client.

import assert from "node:assert/strict";
import * as service from "./service.mjs";

// The library wants browsers' WebSocket to be there when it is loaded; Node.js has it from 22.
globalThis.WebSocket ??= class {};
const { MedplumClient } = await import("@medplum/core");

const client = async (name) =>
  new MedplumClient({
    baseUrl: `${service.BASE}/`, fhirUrlPath: "fhir", fetch, cacheTime: 0, autoBatchTime: 0,
    accessToken: await service.token(name),
  });
const practice = await client("practice");
const coach = await client("coach");

// Refer, and again as a system that did not hear the answer.
const sent = service.referral();
const referral = await practice.createResource(sent);
assert.equal((await practice.createResource(sent)).id, referral.id);
const status = () => practice.get(practice.fhirUrl("ServiceRequest", referral.id, "$status"), { cache: "reload" });
const before = service.said(await status(), "state");

// Claim as a coach, record, complete.
const task = await coach.post(coach.fhirUrl("Task", "$claim-next"), service.parameters({ role: "health-coach" }));
assert.equal(task.status, "accepted");
assert.equal(task.focus.reference, `ServiceRequest/${referral.id}`);
const subject = task.for;
const basedOn = [{ reference: task.focus.reference }];
const encounter = await coach.createResource(service.resource("encounter", { subject, basedOn }));
const pam = service.resource("pam", { subject, encounter: { reference: `Encounter/${encounter.id}` } });
const observation = await coach.createResource(pam);
const current = await coach.readResource("Task", task.id, { cache: "reload" });
const done = await coach.post(
  coach.fhirUrl("Task", task.id, "$complete"), service.parameters({ outcome: "accepted" }), undefined,
  { headers: { "If-Match": `W/"${current.meta.versionId}"` } },
);
assert.equal(done.status, "completed");
assert.notEqual(service.said(await status(), "state"), before);

// Search, as the practice sees it.
const found = await practice.searchResources("Encounter", { "based-on": `ServiceRequest/${referral.id}` });
assert.deepEqual(found.map((one) => one.id), [encounter.id]);
assert.equal((await practice.readResource("Observation", observation.id)).valueQuantity.value, 56.4);

// Conditional create: twice, and there is one.
const [document, criteria] = service.document();
const first = await practice.createResourceIfNoneExist(document, criteria);
assert.equal((await practice.createResourceIfNoneExist(document, criteria)).id, first.id);

// Change by PUT, and by PATCH where the service says that it takes it.
const changed = await practice.updateResource({ ...first, description: "Changed" });
assert.equal(changed.description, "Changed");
const statement = await practice.get(practice.fhirUrl("metadata"));
if (service.patches(statement, "DocumentReference")) {
  const patch = [{ op: "replace", path: "/description", value: "Patched" }];
  assert.equal((await practice.patchResource("DocumentReference", first.id, patch)).description, "Patched");
}

// Paging: everything once.
const made = [referral.id];
for (let n = 0; n < 4; n += 1) made.push((await practice.createResource(service.referral())).id);
const pages = [];
for await (const page of practice.searchResourcePages("ServiceRequest", { _count: "2" })) {
  pages.push(...page.map((one) => one.id));
}
assert.equal(new Set(pages).size, pages.length);
for (const id of made) assert.ok(pages.includes(id));

await assert.rejects(practice.readResource("Encounter", "nobody"));
console.log("medplum: the loop is walked");
