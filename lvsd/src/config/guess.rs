//! "Did you mean": the known word that a wrong one was probably meant to be.

/// The closest of `known`, or none when all are too different to be a typing error.
///
/// One edit for every three letters is tolerated, and a swap of neighbours counts as one edit.
pub(super) fn closest<'k>(
    wrong: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    let wrong = wrong.to_lowercase().replace('-', "_");
    let mut best: Option<(usize, &str)> = None;
    for word in known {
        let distance = strsim::damerau_levenshtein(&wrong, &word.replace('-', "_"));
        let tolerated = word.chars().count().max(3) / 3;
        if distance <= tolerated && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, word));
        }
    }
    best.map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn a_typing_error_finds_its_word_and_another_word_finds_none() {
        let known = ["scheduler", "address", "weight", "to", "until-server-data"];
        for (wrong, right) in [
            ("schedular", Some("scheduler")),
            ("sheduler", Some("scheduler")),
            ("Address", Some("address")),
            ("adress", Some("address")),
            ("wieght", Some("weight")),
            ("ot", Some("to")),
            ("until_server_data", Some("until-server-data")),
            ("persistence", None),
            ("", None),
        ] {
            assert_eq!(closest(wrong, known), right, "{wrong}");
        }
    }
}
