CREATE TABLE sheet (id serial PRIMARY KEY, below int REFERENCES sheet, name text NOT NULL);
