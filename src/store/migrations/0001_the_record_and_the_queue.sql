-- One text for SQLite and PostgreSQL. Times are microseconds since 1970 UTC, ids are FHIR ids, bodies are JSON as sent.
-- SQL never looks inside a body: what is searched stands in columns.

-- The current version of every resource.
-- `sender` is the organisation (ODS) it came from, '' for the directory and what the service itself made;
-- `person` is our Patient it is about, '' for none; `referral` the ServiceRequest it came of.
create table resource (
    kind       text    not null,
    id         text    not null,
    version    bigint  not null,
    updated_at bigint  not null,
    deleted    boolean not null,
    sender     text    not null,
    person     text    not null,
    referral   text    not null,
    body       text    not null,
    primary key (kind, id)
);
create index resource_by_person on resource (person, kind, id) where person <> '';
create index resource_by_referral on resource (referral, kind, id) where referral <> '';

-- Versions that were replaced.
create table resource_history (
    kind       text    not null,
    id         text    not null,
    version    bigint  not null,
    updated_at bigint  not null,
    deleted    boolean not null,
    body       text    not null,
    primary key (kind, id, version)
);

-- Search index: tokens (value, system), references (Type/id), names (lower case) and URIs.
create table lookup (
    kind   text not null,
    param  text not null,
    value  text not null,
    system text not null,
    id     text not null,
    primary key (kind, param, value, system, id)
);

-- Search index: dates and periods, as the interval they cover.
create table lookup_time (
    kind  text   not null,
    param text   not null,
    low   bigint not null,
    high  bigint not null,
    id    text   not null,
    primary key (kind, param, low, high, id)
);

-- A person Live Well works with; `id` is our Patient.
create table person (
    id         text    not null primary key,
    nhs_number text,
    birth_date text    not null,
    family     text    not null,
    practice   text    not null,
    locality   text    not null
);
create unique index person_by_nhs_number on person (nhs_number) where nhs_number is not null;

-- A ServiceRequest that is a referral to us.
create table referral (
    id          text   not null primary key,
    reference   text   not null unique,
    sender      text   not null,
    digest      text   not null,
    submission  text   not null,
    person      text   not null,
    practice    text   not null,
    locality    text   not null,
    episode     text   not null,
    care_plan   text   not null,
    state       text   not null,
    outcome     text   not null,
    received_at bigint not null,
    since       bigint not null
);
create index referral_by_person on referral (person, received_at);

-- Business identifiers of referrals: what makes a resend a resend.
create table referral_identifier (
    sender   text not null,
    system   text not null,
    value    text not null,
    referral text not null,
    primary key (sender, system, value)
);

-- One spell of a person with us; at most one is open.
create table episode (
    id         text    not null primary key,
    person     text    not null,
    open       boolean not null,
    started_at bigint  not null
);
create unique index episode_open on episode (person) where open;

-- The human task queue. `ready` is when a Task may first be handed out: a review is made long before it is due.
create table task (
    id         text   not null primary key,
    version    bigint not null,
    status     text   not null,
    code       text   not null,
    role       text   not null,
    locality   text   not null,
    practice   text   not null,
    owner      text   not null,
    priority   bigint not null,
    ready      bigint not null,
    due        bigint not null,
    referral   text   not null,
    person     text   not null,
    created_at bigint not null,
    open       boolean not null,
    held_at    bigint not null
);
create index task_of_person on task (person, code) where open;
create index task_unclaimed on task (role, locality, priority, due, id) where status in ('requested', 'received');
create index task_unclaimed_anywhere on task (role, priority, due, id) where status in ('requested', 'received');
create index task_work_list on task (locality, role, priority, due, id) where open;
create index task_of_owner on task (owner, priority, due, id) where open;
create index task_of_referral on task (referral, created_at);
create index task_of_practice on task (practice, code) where open and person = '';

-- What leaves: written in the unit of work that caused it, sent by the worker.
create table delivery (
    id          text   not null primary key,
    practice    text   not null,
    person      text   not null,
    referral    text   not null,
    place       bigint not null,
    items       text   not null,
    author      text   not null,
    state       text   not null,
    why         text   not null,
    failures    bigint not null,
    queued_at   bigint not null,
    created_at  bigint not null,
    due_at      bigint not null,
    attempts    bigint not null,
    lease       bigint not null,
    lease_until bigint not null,
    settled_at  bigint
);
create unique index delivery_order on delivery (practice, person, place);
create index delivery_due on delivery (due_at, id) where settled_at is null;
create index delivery_of_referral on delivery (referral, created_at);
create index delivery_without_route on delivery (practice, place, id) where state = 'no-route';
create index delivery_without_route_of_person on delivery (person, place, id) where state = 'no-route';

-- One row for every attempt, never changed.
create table delivery_attempt (
    delivery    text   not null,
    number      bigint not null,
    at          bigint not null,
    duration_ms bigint not null,
    verdict     text   not null,
    why         text   not null,
    answer      text   not null,
    primary key (delivery, number)
);

-- The copy a practice holds of what we recorded.
create table practice_copy (
    practice          text   not null,
    record            text   not null,
    practice_reference text  not null,
    practice_version  text   not null,
    our_version       bigint not null,
    primary key (practice, record)
);

-- Answers that a resend gets again; `key` is the Idempotency-Key, '' for a submission without one.
create table submission (
    id         text   not null primary key,
    client     text   not null,
    key        text   not null,
    digest     text   not null,
    status     bigint not null,
    answer     text   not null,
    created_at bigint not null
);
create unique index submission_key on submission (client, key) where key <> '';

-- Who may call.
create table client (
    id               text    not null primary key,
    organization     text    not null,
    scopes           text    not null,
    jwks             text    not null,
    jwks_url         text    not null,
    staff            text    not null,
    speaks_for_staff boolean not null,
    created_at       bigint  not null,
    disabled_at      bigint
);

-- Key sets fetched from registered URLs.
create table key_set (
    url        text   not null primary key,
    body       text   not null,
    fetched_at bigint not null
);

create table access_token (
    hash       text   not null primary key,
    client     text   not null,
    scopes     text   not null,
    expires_at bigint not null
);
create index access_token_by_expiry on access_token (expires_at);

-- Assertions that were used: each buys one token.
create table assertion_used (
    client     text   not null,
    jti        text   not null,
    expires_at bigint not null,
    primary key (client, jti)
);
create index assertion_used_by_expiry on assertion_used (expires_at);

-- Who did what, written with the change or before the disclosure.
create table audit (
    id           text   not null primary key,
    at           bigint not null,
    client       text   not null,
    organization text   not null,
    actor        text   not null,
    interaction  text   not null,
    target       text   not null,
    person       text   not null,
    request_id   text   not null,
    outcome      text   not null
);

-- Keys the service signs with.
create table service_key (
    id         text   not null primary key,
    pem        text   not null,
    created_at bigint not null
);
