-- Who hears of what: the machine's side of a Subscription resource, and what happened for each.

create table subscription (
    -- Id of the Subscription.
    id           text   not null primary key,
    -- The client that made it, its organisation (ODS), and the member of staff it acted as ('' for none).
    client       text   not null,
    organization text   not null,
    staff        text   not null,
    -- The topic's canonical URL; '' where `filters` is a plain R4 criteria.
    topic        text   not null,
    -- JSON list of searches that a change must match.
    filters      text   not null,
    -- 'requested', 'active', 'error' or 'off'.
    state        text   not null,
    error        text   not null,
    -- 'empty', 'id-only' or 'full-resource'.
    content      text   not null,
    endpoint     text   not null,
    -- JSON list of [name, value] that go along, and the secrets that sign: told to nobody but the endpoint.
    headers      text   not null,
    secret       text   not null,
    old_secret   text   not null,
    old_until    bigint not null,
    -- Seconds; 0 for none.
    heartbeat    bigint not null,
    timeout      bigint not null,
    -- Events in one notification at most.
    max_count    bigint not null,
    -- Events since it was made: the number of the last one.
    events       bigint not null,
    -- The delivery that tries the endpoint.
    handshake    text   not null,
    ends_at      bigint not null,
    -- When something was last queued for it.
    heard_at     bigint not null
);
create index subscription_listening on subscription (id) where state <> 'off';
create index subscription_of_client on subscription (client);

create table subscription_event (
    subscription text   not null,
    number       bigint not null,
    at           bigint not null,
    -- `Type/id`, its version then, and the interaction: 'create', 'update', 'delete'.
    focus        text   not null,
    version      bigint not null,
    interaction  text   not null,
    -- References told beside it, parted by spaces.
    context      text   not null,
    -- The delivery that carries it, '' for none.
    delivery     text   not null,
    primary key (subscription, number)
);
create index subscription_event_of_delivery on subscription_event (delivery, number) where delivery <> '';
create index subscription_event_by_time on subscription_event (at);
