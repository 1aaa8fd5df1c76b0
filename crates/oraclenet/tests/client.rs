//! The client as its users meet it: the `oraclenet` program, a real PocketBase with OracleNet's schema, and between the
//! two a front that loses answers. Nothing here starts our own server.

#[path = "client/credentials.rs"]
mod credentials;
#[path = "client/faults.rs"]
mod faults;
#[path = "client/front.rs"]
mod front;
#[path = "client/pocketbase.rs"]
mod pocketbase;
#[path = "client/util.rs"]
mod util;
#[path = "client/verbs.rs"]
mod verbs;
