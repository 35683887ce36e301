-- The search parameters of R4, of all value types. What the previous release reads and writes stays as it is.

-- Which version's rows the index has, and by which table of parameters: version * 100 + generation. The previous release
-- does not write it, so what it stores or changes is behind until the new one has written its rows anew.
alter table resource add column indexed bigint not null default 0;
create index resource_behind on resource (kind, id) where indexed <> version * 100 + 1;

-- What the index says of one resource. Ids grow with time, so these fill from the end.
create index lookup_of_resource on lookup (id, kind, param);
create index lookup_time_of_resource on lookup_time (id, kind, param);

-- Search index: numbers and quantities, as the range they cover; a quantity with its unit, as it was sent.
create table lookup_number (
    kind   text   not null,
    param  text   not null,
    low    double precision not null,
    high   double precision not null,
    system text   not null,
    code   text   not null,
    unit   text   not null,
    id     text   not null,
    primary key (kind, param, low, high, system, code, unit, id)
);
create index lookup_number_of_resource on lookup_number (id, kind, param);

-- Search index: composites, a token and what stands with it in the same element: another word, or a range.
create table lookup_pair (
    kind         text   not null,
    param        text   not null,
    value        text   not null,
    system       text   not null,
    other        text   not null,
    other_system text   not null,
    low          double precision not null,
    high         double precision not null,
    id           text   not null,
    primary key (kind, param, value, system, other, other_system, low, high, id)
);
create index lookup_pair_of_resource on lookup_pair (id, kind, param);
