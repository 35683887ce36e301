-- The secret by which page links are sealed. It was made of the signing key; keys are replaced now, and links outlive that.
create table page_secret (
    id     text not null primary key,
    secret text not null
);
