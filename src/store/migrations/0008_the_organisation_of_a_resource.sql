-- The organisation (ODS) whose referral a resource came of, else the one that sent it; '' for the directory and for what
-- is the person's own. Never changes. By it PostgreSQL can hold resources in partitions: deploy/partition.sql.
alter table resource add column organization text not null default '';
alter table resource_history add column organization text not null default '';
