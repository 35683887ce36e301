-- Bulk exports. Nothing is copied: a file is what the record was at `taken_at`, read from versions and history when it is
-- downloaded, by whichever instance.

create table export (
    id          text    not null primary key,
    -- Who asked: only this client reads it.
    client      text    not null,
    -- The URL that was asked.
    request     text    not null,
    -- JSON list of resource types.
    types       text    not null,
    -- 'all', 'people' (what is about anybody), or 'group' (what is about the people in export_person).
    scope       text    not null,
    -- What changed since then; 0 for everything.
    since       bigint  not null,
    -- transactionTime.
    taken_at    bigint  not null,
    -- 'working', 'done'.
    state       text    not null,
    -- How far counting is: the type's place in `types`, the id after which it goes on, and what was counted of it.
    place       bigint  not null,
    after       text    not null,
    counted     bigint  not null,
    asked_at    bigint  not null,
    expires_at  bigint  not null,
    lease       bigint  not null,
    lease_until bigint  not null
);
create index export_waiting on export (lease_until, id) where state = 'working';
create index export_by_expiry on export (expires_at);

create table export_person (
    export text not null,
    person text not null,
    primary key (export, person)
);

create table export_file (
    export  text   not null,
    kind    text   not null,
    counted bigint not null,
    primary key (export, kind)
);
