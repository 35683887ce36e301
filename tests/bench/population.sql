-- The rows of a population, in the form the service writes them. {tasks}: how many Tasks; {now}, {year}: microseconds.
-- `i` counts referrals, `t` Tasks; a multiplication by a prime shuffles what would otherwise go in step.

create temp table r as
with recursive n(i) as (select 0 union all select i + 1 from n where i + 1 < {tasks} / {each})
select i,
    printf('018f%08x-referral', i) as id,
    printf('018f%08x-person', i) as person,
    printf('TESTB%02d', i * 7919 % {practices}) as practice,
    printf('locality-%d', i * 7919 % {practices} % {localities}) as locality,
    printf('coach-%d', i * 7919 % {practices} % {localities}) as coach,
    printf('LW-P%07d', i) as reference,
    -- Spread over a year.
    {now} - i * 104729 % 31536000 * ({year} / 31536000) as received,
    -- Two in five wait for their first contact, the others were met and written back.
    i % 5 >= 2 as met
from n;

-- Those whose check digit would be 10 have no NHS number.
insert into person
select person, case when c < 10 then printf('%d%d', 999000000 + i, c) end,
    printf('19%02d-%02d-%02d', 30 + i % 60, 1 + i % 12, 1 + i % 28), printf('Family%d', i % 5003), practice, locality
from (select r.*, (11 - (243 + i / 100000 % 10 * 7 + i / 10000 % 10 * 6 + i / 1000 % 10 * 5 + i / 100 % 10 * 4
    + i / 10 % 10 * 3 + i % 10 * 2) % 11) % 11 as c from r);

insert into referral
select id, reference, practice, printf('%064x', i), '', person, practice, locality, printf('018f%08x-episode', i),
    printf('018f%08x-plan', i), case when met then 'closed' else 'received' end, '', received, received
from r;

insert into resource (kind, id, version, updated_at, deleted, sender, person, referral, indexed, body)
select 'Patient', person, 1, received, false, '', person, '', 101, json_object(
    'resourceType', 'Patient',
    'id', person,
    'meta', json_object('versionId', '1', 'lastUpdated', '2026-01-01T00:00:00.000Z'),
    'active', json('true'),
    'name', json_array(json_object('family', printf('Family%d', i % 5003), 'given', json_array('Given'))),
    'gender', 'female',
    'generalPractitioner', json_array(json_object('type', 'Organization', 'identifier',
        json_object('system', 'https://fhir.nhs.uk/Id/ods-organization-code', 'value', practice))))
from r;

insert into resource (kind, id, version, updated_at, deleted, sender, person, referral, indexed, body, organization)
select 'ServiceRequest', id, 1, received, false, practice, person, id, 101, json_object(
    'resourceType', 'ServiceRequest',
    'id', id,
    'meta', json_object('versionId', '1', 'lastUpdated', '2026-01-01T00:00:00.000Z'),
    'identifier', json_array(json_object('use', 'secondary', 'system',
        'https://livewell.example/Id/referral-reference', 'value', reference)),
    'status', 'active',
    'intent', 'order',
    'priority', 'routine',
    'code', json_object('text', 'Social prescribing'),
    'subject', json_object('reference', 'Patient/' || person),
    'authoredOn', '2026-01-01',
    'requester', json_object('type', 'Organization', 'identifier',
        json_object('system', 'https://fhir.nhs.uk/Id/ods-organization-code', 'value', practice)),
    'reasonCode', json_array(json_object('text', 'Lives alone since the summer, would like company.'))), practice
from r;

insert into lookup
select 'ServiceRequest', 'identifier', reference, 'https://livewell.example/Id/referral-reference', id from r
union all select 'ServiceRequest', 'status', 'active', '', id from r
union all select 'Patient', 'family', printf('family%d', i % 5003), '', person from r
union all select 'Patient', 'gender', 'female', '', person from r;

-- Two in five Tasks wait to be claimed, one in twenty is a coach's, the rest is done; one in ten of the waiting ones is
-- a review that is not to be handed out yet.
insert into task
with recursive n(t) as (select 0 union all select t + 1 from n where t + 1 < {tasks}),
    s as (select t, t * 48271 % 20 as k from n)
select printf('018f%08x-task', t), 1, case when k < 8 then 'requested' when k = 8 then 'accepted' else 'completed' end,
    case t % {each} when 0 then 'contact-patient' when 1 then 'first-meeting' else 'review' end, 'health-coach',
    r.locality, r.practice, case when k = 8 then 'PractitionerRole/' || r.coach else '' end,
    case when t * 7919 % 50 = 0 then 2 else 3 end,
    case when t % 10 = 3 then {now} + {year} / 2 else r.received end,
    case when t % 10 = 3 then {now} + {year} else r.received + 172800000000 end,
    r.id, r.person, r.received, k < 9, 0
from s join r on r.i = s.t / {each};

insert into resource (kind, id, version, updated_at, deleted, sender, person, referral, indexed, body, organization)
select 'Task', id, 1, created_at, false, 'TESTLW', person, referral, 101, json_object(
    'resourceType', 'Task',
    'id', id,
    'meta', json_object('versionId', '1', 'lastUpdated', '2026-01-01T00:00:00.000Z'),
    'status', status,
    'intent', 'order',
    'priority', case priority when 2 then 'urgent' else 'routine' end,
    'code', json_object('coding', json_array(json_object(
        'system', 'https://livewell.example/CodeSystem/task-code', 'code', code))),
    'focus', json_object('reference', 'ServiceRequest/' || referral),
    'for', json_object('reference', 'Patient/' || person),
    'authoredOn', '2026-01-01T00:00:00.000Z',
    'lastModified', '2026-01-01T00:00:00.000Z',
    'performerType', json_array(json_object('coding', json_array(json_object(
        'system', 'https://livewell.example/CodeSystem/role', 'code', role)))),
    'location', json_object('reference', 'Location/' || locality),
    'restriction', json_object('period', json_object('end', '2026-01-03T00:00:00.000Z')),
    'description', 'Speak with the person and find out what matters'), practice
from task;

-- Who was met: the first contact, the first meeting with a PAM score, and both in the practice's record.
create temp table recorded as
select 'Encounter' as kind, printf('018f%08x-contact', i) as id, 1 as place, id as referral, i, person, practice, coach,
    received + 86400000000 as at from r where met
union all select 'Encounter', printf('018f%08x-meeting', i), 2, id, i, person, practice, coach,
    received + 604800000000 from r where met
union all select 'Observation', printf('018f%08x-pam', i), 2, id, i, person, practice, coach,
    received + 604800000000 from r where met;

insert into resource (kind, id, version, updated_at, deleted, sender, person, referral, indexed, body, organization)
select 'Encounter', id, 1, at, false, 'TESTLW', person, referral, 101, json_object(
    'resourceType', 'Encounter',
    'id', id,
    'meta', json_object('versionId', '1', 'lastUpdated', '2026-01-01T00:00:00.000Z'),
    'status', 'finished',
    'class', json_object('system', 'http://terminology.hl7.org/CodeSystem/v3-ActCode', 'code', 'AMB'),
    'subject', json_object('reference', 'Patient/' || person),
    'basedOn', json_array(json_object('reference', 'ServiceRequest/' || referral)),
    'participant', json_array(json_object('individual', json_object('reference', 'PractitionerRole/' || coach))),
    'period', json_object('start', '2026-01-02T10:00:00Z', 'end', '2026-01-02T10:40:00Z')), practice
from recorded where kind = 'Encounter';

insert into resource (kind, id, version, updated_at, deleted, sender, person, referral, indexed, body, organization)
select 'Observation', id, 1, at, false, 'TESTLW', person, referral, 101, json_object(
    'resourceType', 'Observation',
    'id', id,
    'meta', json_object('versionId', '1', 'lastUpdated', '2026-01-01T00:00:00.000Z'),
    'status', 'final',
    'code', json_object('text', 'Patient Activation Measure score'),
    'subject', json_object('reference', 'Patient/' || person),
    'encounter', json_object('reference', printf('Encounter/018f%08x-meeting', i)),
    'effectiveDateTime', '2026-01-02T10:30:00Z',
    'performer', json_array(json_object('reference', 'PractitionerRole/' || coach)),
    'valueQuantity', json_object('value', 30 + i % 60)), practice
from recorded where kind = 'Observation';

insert into lookup
select kind, 'status', case kind when 'Encounter' then 'finished' else 'final' end, '', id from recorded
union all select kind, 'based-on', 'ServiceRequest/' || referral, '', id from recorded where kind = 'Encounter'
union all select kind, 'encounter', printf('Encounter/018f%08x-meeting', i), '', id from recorded
    where kind = 'Observation';

insert into lookup_time select kind, 'date', at, at + 1000000, id from recorded;

insert into delivery (id, practice, person, referral, place, items, author, state, why, failures, queued_at, created_at,
    due_at, attempts, lease, lease_until, settled_at, channel)
select printf('018f%08x-delivery-%d', i, place), practice, person, referral, place,
    json_group_array(json_object('kind', kind, 'id', id, 'version', 1)), 'PractitionerRole/' || coach, 'delivered', '', 0,
    at, at, 9223372036854775807, 1, 1, 0, at + 5000, 'fhir-rest'
from recorded group by i, place;

insert into delivery_attempt (delivery, number, at, duration_ms, verdict, why, answer)
select id, 1, created_at, 5, 'delivered', '', '' from delivery;

insert into practice_copy (practice, record, practice_reference, practice_version, our_version)
select practice, kind || '/' || id, kind || '/theirs-' || id, '1', 1 from recorded;
