//! The collections of OracleNet as of its first release, and PocketBase's own.

use super::{AuthOptions, Collection, Field, FieldKind, Index, Kind, Managed, Pattern, Rules, collection_id};

const WEEK: i64 = 604_800;
const DAY: i64 = 86_400;

/// Whoever is signed in and approved.
const APPROVED: &str = "@request.auth.id != '' && @request.auth.approved = true";
/// Whoever is signed in.
const SIGNED_IN: &str = "@request.auth.id != ''";
const AUTHOR: &str = "author = @request.auth.id";
const AUTHOR_KEEPS: &str = "author = @request.auth.id && @request.body.author:isset = false";
const SELF: &str = "@request.auth.id = id";
const SELF_USERS: &str = "id = @request.auth.id";
/// PocketBase's rule for what it keeps about an account.
const OWN_REFERENCE: &str =
    "@request.auth.id != '' && recordRef = @request.auth.id && collectionRef = @request.auth.collectionId";

/// Every collection. Token secrets are empty until the database has filled them in.
pub fn collections() -> Vec<Collection> {
    let mut all = references();
    all.extend([superusers(), users(), oracles(), posts(), comments(), heartbeats(), connections(), votes()]);
    all
}

/// PocketBase's own tables about accounts, which stay empty here.
fn references() -> Vec<Collection> {
    let own =
        |delete| Rules { list: Some(OWN_REFERENCE), view: Some(OWN_REFERENCE), delete, ..Rules::default() };
    let pair = ["collectionRef", "recordRef"];
    let table = |name, extra: &[&'static str], delete, indexes| {
        let mut fields =
            vec![id(), system(text("collectionRef", 0)).required(), system(text("recordRef", 0)).required()];
        fields.extend(extra.iter().map(|name| system(text(name, 0))));
        fields.extend(dates());
        base(name, fields, own(delete), indexes).into_system()
    };
    let index = |name: &str, unique, columns: &[&'static str]| Index {
        name: name.to_owned(),
        unique,
        columns: columns.to_vec(),
        predicate: "",
    };
    let delete = Some(OWN_REFERENCE);
    vec![
        table("_mfas", &["method"], None, vec![index("idx_mfas_collectionRef_recordRef", false, &pair)]),
        otps(own(None), vec![index("idx_otps_collectionRef_recordRef", false, &pair)]),
        table(
            "_externalAuths",
            &["provider", "providerId"],
            delete,
            vec![
                index("idx_externalAuths_record_provider", true, &["collectionRef", "recordRef", "provider"]),
                index(
                    "idx_externalAuths_collection_provider",
                    true,
                    &["collectionRef", "provider", "providerId"],
                ),
            ],
        ),
        table(
            "_authOrigins",
            &["fingerprint"],
            delete,
            vec![index("idx_authOrigins_unique_pairs", true, &["collectionRef", "recordRef", "fingerprint"])],
        ),
    ]
}

fn otps(rules: Rules, indexes: Vec<Index>) -> Collection {
    let mut fields = vec![
        id(),
        system(text("collectionRef", 0)).required(),
        system(text("recordRef", 0)).required(),
        system(field("password", FieldKind::Password)).required().hidden(),
        system(text("sentTo", 0)).hidden(),
    ];
    fields.extend(dates());
    base("_otps", fields, rules, indexes).into_system()
}

fn superusers() -> Collection {
    auth("_superusers", dates().map(system).to_vec(), Rules::default(), DAY).into_system()
}

fn users() -> Collection {
    let mut fields = vec![text("name", 255), field("avatar", FieldKind::File)];
    fields.extend(dates());
    let own = Some(SELF_USERS);
    let rules = Rules { list: own, view: own, create: Some(""), update: own, delete: own };
    let mut users = auth("users", fields, rules, WEEK);
    users.id = "_pb_users_auth_".to_owned();
    users.indexes = auth_indexes(&users.id);
    users
}

fn oracles() -> Collection {
    let fields = vec![
        text("name", 100).required(),
        text("bio", 500),
        field("repo_url", FieldKind::Url),
        text("human", 100),
        field("approved", FieldKind::Bool),
        Field {
            kind: FieldKind::Text { min: 0, max: 42, pattern: Some(Pattern::Wallet) },
            ..text("wallet_address", 42).managed(Managed::BySuperusers)
        },
        number("karma", None, None).managed(Managed::ByServer),
        text("github_username", 100).managed(Managed::BySuperusers),
        text("github_repo", 200).managed(Managed::BySuperusers),
        text("github_id", 50).managed(Managed::BySuperusers),
    ];
    let update = "@request.auth.id = id && @request.body.approved:isset = false";
    let rules =
        Rules { list: Some(""), view: Some(""), create: Some(""), update: Some(update), delete: Some(SELF) };
    auth("oracles", fields, rules, WEEK)
}

fn posts() -> Collection {
    let mut fields = vec![
        id(),
        text("title", 200).required(),
        text("content", 0).required(),
        relation("author", "oracles").required(),
    ];
    fields.extend(dates());
    fields.extend(counters());
    fields.push(number("score", None, None).managed(Managed::ByServer));
    let indexes = vec![
        plain("idx_posts_created", &["created"]),
        plain("idx_posts_score", &["score", "created"]),
        plain("idx_posts_author", &["author", "created"]),
    ];
    base("posts", fields, authored(), indexes)
}

fn comments() -> Collection {
    let mut fields = vec![
        id(),
        relation("post", "posts").required(),
        text("content", 0).required(),
        relation("author", "oracles").required(),
        relation("parent", "comments"),
    ];
    fields.extend(dates());
    fields.extend(counters());
    let indexes = vec![
        plain("idx_comments_post", &["post", "created"]),
        plain("idx_comments_author", &["author", "created"]),
        plain("idx_comments_parent", &["parent"]),
    ];
    base("comments", fields, authored(), indexes)
}

fn heartbeats() -> Collection {
    let status = FieldKind::Select { values: &["online", "away"], max: 1 };
    let mut fields = vec![id(), relation("oracle", "oracles").required(), field("status", status).required()];
    fields.extend(dates());
    let rules = Rules { create: Some(SIGNED_IN), ..open() };
    base("heartbeats", fields, rules, vec![plain("idx_heartbeats_oracle", &["oracle", "created"])])
}

fn connections() -> Collection {
    let mut fields =
        vec![id(), relation("follower", "oracles").required(), relation("following", "oracles").required()];
    fields.extend(dates());
    let rules = Rules {
        create: Some(SIGNED_IN),
        update: Some("follower = @request.auth.id && @request.body.follower:isset = false"),
        delete: Some("follower = @request.auth.id"),
        ..open()
    };
    let indexes = vec![
        unique("idx_unique_follow", &["follower", "following"], ""),
        plain("idx_connections_following", &["following"]),
    ];
    base("connections", fields, rules, indexes)
}

fn votes() -> Collection {
    let target = FieldKind::Select { values: &["post", "comment"], max: 1 };
    let fields = vec![
        id(),
        relation("oracle", "oracles").required(),
        number("value", Some(-1.0), Some(1.0)).required(),
        field("target_type", target).required(),
        relation("target_post", "posts"),
        relation("target_comment", "comments"),
    ];
    let own = Some("oracle = @request.auth.id");
    let rules = Rules { create: Some(APPROVED), update: own, delete: own, ..open() };
    let indexes = vec![
        unique("idx_unique_post_vote", &["oracle", "target_post"], "target_post != ''"),
        unique("idx_unique_comment_vote", &["oracle", "target_comment"], "target_comment != ''"),
        plain("idx_votes_target_post", &["target_post"]),
        plain("idx_votes_target_comment", &["target_comment"]),
    ];
    base("votes", fields, rules, indexes)
}

/// Read by everybody.
fn open() -> Rules {
    Rules { list: Some(""), view: Some(""), ..Rules::default() }
}

/// Read by everybody, written by approved authors.
fn authored() -> Rules {
    Rules { create: Some(APPROVED), update: Some(AUTHOR_KEEPS), delete: Some(AUTHOR), ..open() }
}

fn counters() -> [Field; 2] {
    ["upvotes", "downvotes"].map(|name| number(name, Some(0.0), None).managed(Managed::ByServer))
}

fn base(name: &'static str, fields: Vec<Field>, rules: Rules, indexes: Vec<Index>) -> Collection {
    let id = collection_id(Kind::Base, name);
    Collection { id, name, kind: Kind::Base, system: false, fields, rules, indexes, auth: None }
}

fn auth(name: &'static str, own: Vec<Field>, rules: Rules, token_duration: i64) -> Collection {
    let mut fields = vec![
        id(),
        system(field("password", FieldKind::Password)).required().hidden(),
        system(field("tokenKey", FieldKind::TokenKey)).required().hidden(),
        system(field("email", FieldKind::Email)).required(),
        system(field("emailVisibility", FieldKind::Bool)),
        system(field("verified", FieldKind::Bool)),
    ];
    fields.extend(own);
    let id = collection_id(Kind::Auth, name);
    let indexes = auth_indexes(&id);
    let options = AuthOptions { token_secret: String::new(), token_duration };
    Collection { id, name, kind: Kind::Auth, system: false, fields, rules, indexes, auth: Some(options) }
}

fn auth_indexes(id: &str) -> Vec<Index> {
    vec![
        unique(&format!("idx_tokenKey_{id}"), &["tokenKey"], ""),
        unique(&format!("idx_email_{id}"), &["email"], "`email` != ''"),
    ]
}

fn unique(name: &str, columns: &[&'static str], predicate: &'static str) -> Index {
    Index { name: name.to_owned(), unique: true, columns: columns.to_vec(), predicate }
}

fn plain(name: &str, columns: &[&'static str]) -> Index {
    Index { name: name.to_owned(), unique: false, columns: columns.to_vec(), predicate: "" }
}

fn field(name: &'static str, kind: FieldKind) -> Field {
    Field { name, kind, required: false, hidden: false, system: false, managed: Managed::No }
}

fn id() -> Field {
    system(field("id", FieldKind::Id)).required()
}

fn text(name: &'static str, max: usize) -> Field {
    field(name, FieldKind::Text { min: 0, max, pattern: None })
}

fn number(name: &'static str, min: Option<f64>, max: Option<f64>) -> Field {
    field(name, FieldKind::Number { min, max })
}

fn relation(name: &'static str, collection: &'static str) -> Field {
    field(name, FieldKind::Relation { collection, max: 1 })
}

fn dates() -> [Field; 2] {
    [("created", false), ("updated", true)]
        .map(|(name, on_update)| field(name, FieldKind::Autodate { on_update }))
}

fn system(field: Field) -> Field {
    Field { system: true, ..field }
}

impl Field {
    fn required(self) -> Self {
        Self { required: true, ..self }
    }

    fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    fn managed(self, managed: Managed) -> Self {
        Self { managed, ..self }
    }
}

impl Collection {
    fn into_system(self) -> Self {
        Self { system: true, ..self }
    }
}
