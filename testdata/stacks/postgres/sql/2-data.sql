INSERT INTO sheet (below, name) VALUES (NULL, 'base'), (1, 'tools'), (2, 'app');
