//! The same requests to the real PocketBase and to this server, answers compared.
//!
//! The requests are data: files in `scenarios/`, whose form `scenario` explains, and what `generate` makes of a seed.
//! Status, headers that clients can see and JSON must be equal once ids, dates and tokens are blanked (`blank`); each
//! deliberate difference is a row of `DIFFERENCES.md`, is named by the case that shows it, and has its expected answer.
//!
//! Every scenario has both servers for itself, begins with `scenarios/setup.requests`, and reports all of its
//! differences at once. `ORACLENET_TEST_SERVER=pocketbase` puts a second PocketBase in our server's place: then nothing
//! at all may differ, which proves the blanking. `ORACLENET_TEST_SERVER=http://ADDRESS` puts a
//! server there that somebody else runs, with a fresh database: one scenario, chosen by its name, for each.
//! `ORACLENET_TEST_SHOW=1` prints every answer of the reference.

#[path = "../common/mod.rs"]
mod common;

mod blank;
mod compare;
mod differences;
mod generate;
mod run;
mod scenario;

use run::check;

macro_rules! scenarios {
    ($($test:ident: $file:literal;)*) => {
        /// All scenario files, for the checks that look at every one of them.
        const SCENARIOS: &[(&str, &str)] = &[$(($file, include_str!(concat!("scenarios/", $file, ".requests")))),*];

        $(#[test]
        fn $test() {
            check($file, include_str!(concat!("scenarios/", $file, ".requests")));
        })*
    };
}

scenarios! {
    accounts_are_created_and_changed_as_in_pocketbase: "accounts";
    tokens_and_logins_behave_as_in_pocketbase: "auth";
    posts_and_comments_are_written_as_in_pocketbase: "posts";
    bodies_of_every_form_are_read_as_in_pocketbase: "bodies";
    lists_are_paged_and_sorted_as_in_pocketbase: "list";
    filters_mean_what_they_mean_in_pocketbase: "filter";
    relations_are_expanded_as_in_pocketbase: "expand";
    fields_are_picked_as_in_pocketbase: "fields";
    votes_count_as_in_pocketbase: "votes";
    feed_presence_and_connections_answer_as_in_pocketbase: "network";
    rules_let_the_same_people_do_the_same_things: "rules";
    errors_and_headers_are_those_of_pocketbase: "errors";
    what_is_switched_off_says_so_as_in_pocketbase: "off";
    changes_arrive_live_as_in_pocketbase: "realtime";
}

#[test]
fn generated_requests_are_answered_as_in_pocketbase() {
    generate::check();
}

#[test]
fn every_difference_has_a_case_and_every_case_a_difference() {
    differences::check(SCENARIOS);
}
