-- Holds the tables that grow with the years in partitions by a hash of the organisation, on PostgreSQL 15 or later.
--
--   livewell migrate
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -v partitions=16 -f deploy/partition.sql
--
-- Run it once, with the service stopped: on a new database it is done at once, on one in use it copies each table. It is
-- one transaction: interrupted, it leaves everything as it was. Afterwards the service runs as before, without a setting.
--
-- What is partitioned, and by what:
--
--   resource, resource_history   organization   whose referral it came of, else who sent it; '' for the directory
--   referral_identifier          sender         who sent the referral
--   task, delivery, practice_copy practice      the practice whose record hears of it
--   audit                        organization   whose client did it
--
-- What stays whole, and why. `person` and its NHS number: one person is one row, whoever refers them. `referral`: the
-- reference that a person reads over the telephone is unique everywhere. `episode`, `delivery_attempt`, `submission`:
-- they hang on these. The search index (`lookup...`) and what `client` begins: a search asks across organisations, and a
-- token is looked up before anybody knows whose it is.
--
-- What it costs. A read by id alone does not know the organisation, and asks the index of every partition; what is
-- written goes to one. A work list merges one ordered scan for each partition. So partitions pay where tables no longer
-- fit one disk, or one vacuum, not for speed.
--
-- On a PostgreSQL that spreads partitions over machines, distribute these tables by the same columns and keep the others
-- as reference tables or on the co-ordinator. One thing to know: a delivery that waited for its practice changes
-- `practice`, so there the `delivery` table is distributed by `id`. Such a server is not part of our tests.
\if :{?partitions}
\else
\set partitions 16
\endif
begin;
select set_config('livewell.partitions', :'partitions', true);
do $$
declare
    wanted record;
    found record;
    statement text;
    statements text[];
    columns text;
    partitions int := current_setting('livewell.partitions')::int;
begin
    for wanted in select * from (values
        ('resource', 'organization'), ('resource_history', 'organization'), ('referral_identifier', 'sender'),
        ('task', 'practice'), ('delivery', 'practice'), ('practice_copy', 'practice'), ('audit', 'organization')
    ) as t (name, key) loop
        continue when (select relkind from pg_class where oid = to_regclass(wanted.name)) = 'p';
        execute format('lock table %I in access exclusive mode', wanted.name);
        statements := '{}';
        for found in
            select x.indisprimary as is_key, pg_get_indexdef(x.indexrelid) as text, x.indisunique as is_unique,
                   (select string_agg(quote_ident(a.attname), ', ' order by k.place)
                    from unnest(x.indkey::int2[]) with ordinality as k (number, place)
                    join pg_attribute a on a.attrelid = x.indrelid and a.attnum = k.number) as columns,
                   exists (select from pg_attribute a where a.attrelid = x.indrelid and a.attname = wanted.key
                           and a.attnum = any (x.indkey::int2[])) as has_key
            from pg_index x where x.indrelid = to_regclass(wanted.name)
        loop
            if found.is_key then
                columns := found.columns || case when found.has_key then '' else format(', %I', wanted.key) end;
                statements := statements || format('alter table %I add primary key (%s)', wanted.name, columns);
            elsif found.is_unique and not found.has_key then
                raise exception 'a unique key of % does not name %: %', wanted.name, wanted.key, found.text;
            else
                statements := statements || found.text;
            end if;
        end loop;
        execute format('alter table %I rename to whole', wanted.name);
        execute format('create table %I (like whole including defaults) partition by hash (%I)', wanted.name, wanted.key);
        for n in 0 .. partitions - 1 loop
            execute format('create table %I partition of %I for values with (modulus %s, remainder %s)',
                           wanted.name || '_' || n, wanted.name, partitions, n);
        end loop;
        execute format('insert into %I select * from whole', wanted.name);
        drop table whole;
        foreach statement in array statements loop
            execute statement;
        end loop;
        execute format('analyze %I', wanted.name);
    end loop;
end
$$;
commit;
