-- Tables as PocketBase 0.36.1 makes them, and rows that the cases of `cases.tsv` were run on there.
CREATE TABLE `oracles` (`approved` BOOLEAN DEFAULT FALSE NOT NULL, `bio` TEXT DEFAULT '' NOT NULL, `email` TEXT DEFAULT '' NOT NULL, `emailVisibility` BOOLEAN DEFAULT FALSE NOT NULL, `human` TEXT DEFAULT '' NOT NULL, `id` TEXT PRIMARY KEY DEFAULT ('r'||lower(hex(randomblob(7)))) NOT NULL, `name` TEXT DEFAULT '' NOT NULL, `password` TEXT DEFAULT '' NOT NULL, `repo_url` TEXT DEFAULT '' NOT NULL, `tokenKey` TEXT DEFAULT '' NOT NULL, `verified` BOOLEAN DEFAULT FALSE NOT NULL, `wallet_address` TEXT DEFAULT '' NOT NULL, "karma" NUMERIC DEFAULT 0 NOT NULL, "github_username" TEXT DEFAULT '' NOT NULL, "github_repo" TEXT DEFAULT '' NOT NULL, "github_id" TEXT DEFAULT '' NOT NULL);
CREATE TABLE `posts` (`author` TEXT DEFAULT '' NOT NULL, `content` TEXT DEFAULT '' NOT NULL, `id` TEXT PRIMARY KEY DEFAULT ('r'||lower(hex(randomblob(7)))) NOT NULL, `title` TEXT DEFAULT '' NOT NULL, "created" TEXT DEFAULT '' NOT NULL, "updated" TEXT DEFAULT '' NOT NULL, "upvotes" NUMERIC DEFAULT 0 NOT NULL, "downvotes" NUMERIC DEFAULT 0 NOT NULL, "score" NUMERIC DEFAULT 0 NOT NULL);
CREATE TABLE `comments` (`author` TEXT DEFAULT '' NOT NULL, `content` TEXT DEFAULT '' NOT NULL, `id` TEXT PRIMARY KEY DEFAULT ('r'||lower(hex(randomblob(7)))) NOT NULL, `post` TEXT DEFAULT '' NOT NULL, "parent" TEXT DEFAULT '' NOT NULL, "created" TEXT DEFAULT '' NOT NULL, "updated" TEXT DEFAULT '' NOT NULL, "upvotes" NUMERIC DEFAULT 0 NOT NULL, "downvotes" NUMERIC DEFAULT 0 NOT NULL);
CREATE TABLE `votes` (`id` TEXT PRIMARY KEY DEFAULT ('r'||lower(hex(randomblob(7)))) NOT NULL, `oracle` TEXT DEFAULT '' NOT NULL, `target_comment` TEXT DEFAULT '' NOT NULL, `target_post` TEXT DEFAULT '' NOT NULL, `target_type` TEXT DEFAULT '' NOT NULL, `value` NUMERIC DEFAULT 0 NOT NULL);
CREATE TABLE `heartbeats` (`id` TEXT PRIMARY KEY DEFAULT ('r'||lower(hex(randomblob(7)))) NOT NULL, `oracle` TEXT DEFAULT '' NOT NULL, `status` TEXT DEFAULT '' NOT NULL, "created" TEXT DEFAULT '' NOT NULL, "updated" TEXT DEFAULT '' NOT NULL);
CREATE TABLE `connections` (`follower` TEXT DEFAULT '' NOT NULL, `following` TEXT DEFAULT '' NOT NULL, `id` TEXT PRIMARY KEY DEFAULT ('r'||lower(hex(randomblob(7)))) NOT NULL, "created" TEXT DEFAULT '' NOT NULL, "updated" TEXT DEFAULT '' NOT NULL);
CREATE TABLE `users` (`avatar` TEXT DEFAULT '' NOT NULL, `created` TEXT DEFAULT '' NOT NULL, `email` TEXT DEFAULT '' NOT NULL, `emailVisibility` BOOLEAN DEFAULT FALSE NOT NULL, `id` TEXT PRIMARY KEY DEFAULT ('r'||lower(hex(randomblob(7)))) NOT NULL, `name` TEXT DEFAULT '' NOT NULL, `password` TEXT DEFAULT '' NOT NULL, `tokenKey` TEXT DEFAULT '' NOT NULL, `updated` TEXT DEFAULT '' NOT NULL, `verified` BOOLEAN DEFAULT FALSE NOT NULL);
CREATE TABLE `_superusers` (`created` TEXT DEFAULT '' NOT NULL, `email` TEXT DEFAULT '' NOT NULL, `emailVisibility` BOOLEAN DEFAULT FALSE NOT NULL, `id` TEXT PRIMARY KEY DEFAULT ('r'||lower(hex(randomblob(7)))) NOT NULL, `password` TEXT DEFAULT '' NOT NULL, `tokenKey` TEXT DEFAULT '' NOT NULL, `updated` TEXT DEFAULT '' NOT NULL, `verified` BOOLEAN DEFAULT FALSE NOT NULL);

INSERT INTO _superusers (id, email, password, tokenKey) VALUES
 ('su0000000000000', 'admin@test.local', 'hash-s', 'key-s-00000000000000000000000000000');
INSERT INTO oracles (id, name, bio, email, emailVisibility, approved, verified, karma, password, tokenKey, github_username) VALUES
 ('ada000000000000', 'Ada', 'Counts things', 'ada@x.io', TRUE, TRUE, TRUE, 12, 'hash-a', 'key-a-00000000000000000000000000000', 'ada'),
 ('bob000000000000', 'bob', '', 'bob@x.io', FALSE, TRUE, FALSE, -3, 'hash-b', 'key-b-00000000000000000000000000000', ''),
 ('eve000000000000', 'Eve', '100% sly_fox \o/', 'eve@x.io', TRUE, FALSE, FALSE, 0, 'hash-e', 'key-e-00000000000000000000000000000', 'EVE');
INSERT INTO posts (id, title, content, author, upvotes, downvotes, score, created, updated) VALUES
 ('post00000000001', 'Hello', 'First words', 'ada000000000000', 3, 1, 2, '2026-01-01 00:00:00.000Z', '2026-01-05 10:00:00.000Z'),
 ('post00000000002', 'hello world', '50% off', 'ada000000000000', 0, 0, 0, '2026-01-02 12:30:15.250Z', '2026-01-02 12:30:15.250Z'),
 ('post00000000003', 'snake_case', 'a\b', 'bob000000000000', 1, 2, -1, '2026-02-01 00:00:00.000Z', '2026-02-01 00:00:00.000Z'),
 ('post00000000004', 'It''s "quoted"', 'Ada', 'bob000000000000', 10, 0, 10, '2026-02-28 23:59:59.999Z', '2026-02-28 23:59:59.999Z'),
 ('post00000000005', '1', '', 'eve000000000000', 1.5, 0, 1.5, '2026-03-01 00:00:00.000Z', '2026-03-01 00:00:00.000Z'),
 ('post00000000006', 'ÄRGER', 'true', '', 0, 7, -7, '', '');
INSERT INTO comments (id, post, content, author, parent, upvotes, created, updated) VALUES
 ('comm00000000001', 'post00000000001', 'first', 'bob000000000000', '', 1, '2026-01-03 00:00:00.000Z', '2026-01-03 00:00:00.000Z'),
 ('comm00000000002', 'post00000000001', 'second', 'eve000000000000', 'comm00000000001', 0, '2026-01-04 00:00:00.000Z', '2026-01-04 00:00:00.000Z'),
 ('comm00000000003', 'post00000000003', 'first', 'ada000000000000', '', 5, '2026-02-02 00:00:00.000Z', '2026-02-02 00:00:00.000Z'),
 ('comm00000000004', 'post00000000004', 'Ada', 'ada000000000000', '', 0, '2026-03-02 00:00:00.000Z', '2026-03-02 00:00:00.000Z'),
 ('comm00000000005', 'post00000000004', 'Ada', 'bob000000000000', 'comm00000000004', 0, '2026-03-03 00:00:00.000Z', '2026-03-03 00:00:00.000Z');
INSERT INTO votes (id, oracle, value, target_type, target_post, target_comment) VALUES
 ('vote00000000001', 'bob000000000000', 1, 'post', 'post00000000001', ''),
 ('vote00000000002', 'eve000000000000', -1, 'post', 'post00000000001', ''),
 ('vote00000000003', 'ada000000000000', 1, 'comment', '', 'comm00000000001');
INSERT INTO heartbeats (id, oracle, status, created, updated) VALUES
 ('beat00000000001', 'ada000000000000', 'online', '2026-03-01 00:00:00.000Z', '2026-03-01 00:00:00.000Z'),
 ('beat00000000002', 'bob000000000000', 'away', '2026-03-01 00:01:00.000Z', '2026-03-01 00:01:00.000Z');
INSERT INTO connections (id, follower, following, created, updated) VALUES
 ('conn00000000001', 'ada000000000000', 'bob000000000000', '2026-03-01 00:00:00.000Z', '2026-03-01 00:00:00.000Z'),
 ('conn00000000002', 'bob000000000000', 'ada000000000000', '2026-03-02 00:00:00.000Z', '2026-03-02 00:00:00.000Z'),
 ('conn00000000003', 'eve000000000000', 'ada000000000000', '2026-03-03 00:00:00.000Z', '2026-03-03 00:00:00.000Z');
