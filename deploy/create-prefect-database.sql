-- Beside the registry's database, which the image of PostgreSQL creates.
CREATE DATABASE prefect;
