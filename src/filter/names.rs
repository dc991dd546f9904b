//! Which names may be looked up.

/// Patterns of names that are allowed and denied. The most specific one that matches a name decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    rules: Vec<(Pattern, Rule)>,
}

/// What becomes of a name. If the same pattern is allowed and denied, it is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    Allow,
    Deny,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    /// The names below this one, or all names if it is empty.
    Below(String),
}

impl Names {
    pub(super) fn add(&mut self, pattern: &str, rule: Rule) {
        self.rules.push((Pattern::parse(pattern), rule));
    }

    /// Returns why a name is denied, if it is.
    pub(super) fn denial(&self, name: &str) -> Option<String> {
        // libc reads `\097` in a name as an `a`, and some platforms map other characters to ASCII.
        if !self.rules.is_empty() && (!name.is_ascii() || name.contains('\\')) {
            return Some("the name is not plain ASCII, so it may be read as another name".to_owned());
        }
        self.decide(|pattern| pattern.specificity(name))
    }

    /// Returns why addresses in place of names are denied, if they are. Only the pattern of all names applies to them.
    pub(super) fn denial_of_literals(&self) -> Option<String> {
        self.decide(|pattern| pattern.is_all().then_some(0))
    }

    fn decide(&self, specificity: impl Fn(&Pattern) -> Option<usize>) -> Option<String> {
        let matching = self.rules.iter().filter_map(|(pattern, rule)| Some((specificity(pattern)?, *rule, pattern)));
        match matching.max_by_key(|&(specificity, rule, _)| (specificity, rule)) {
            Some((_, Rule::Allow, _)) => None,
            Some((_, Rule::Deny, pattern)) => Some(format!("the name matches {:?}, which is denied", pattern.text())),
            None if self.rules.iter().any(|&(_, rule)| rule == Rule::Allow) => {
                Some("the name matches none that is allowed".to_owned())
            }
            None => None,
        }
    }
}

impl Pattern {
    fn parse(text: &str) -> Self {
        // The dot at the end of a name says only that it is complete.
        let trimmed = |text: &str| text.trim_end_matches('.').to_owned();
        match text.strip_prefix('.').or_else(|| text.strip_prefix("*.")) {
            Some(rest) => Self::Below(trimmed(rest)),
            None if text == "*" => Self::Below(String::new()),
            None => Self::Exact(trimmed(text)),
        }
    }

    fn is_all(&self) -> bool {
        matches!(self, Self::Below(domain) if domain.is_empty())
    }

    /// Returns how specific the pattern is, if it matches `name`.
    fn specificity(&self, name: &str) -> Option<usize> {
        let name = name.trim_end_matches('.');
        match self {
            Self::Exact(exact) => name.eq_ignore_ascii_case(exact).then_some(usize::MAX),
            Self::Below(domain) if domain.is_empty() => Some(0),
            Self::Below(domain) => {
                let (below, end) = name.split_at_checked(name.len().checked_sub(domain.len())?)?;
                (below.ends_with('.') && end.eq_ignore_ascii_case(domain)).then_some(domain.len())
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Exact(exact) => exact.clone(),
            Self::Below(domain) => format!(".{domain}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(allowed: &[&str], denied: &[&str]) -> Names {
        let mut names = Names::default();
        allowed.iter().for_each(|pattern| names.add(pattern, Rule::Allow));
        denied.iter().for_each(|pattern| names.add(pattern, Rule::Deny));
        names
    }

    fn passes(names: &Names, name: &str) -> bool {
        names.denial(name).is_none()
    }

    #[test]
    fn a_suffix_matches_below_it_and_a_name_matches_itself() {
        for pattern in [".internal", "*.internal", ".INTERNAL."] {
            let names = names(&[], &[pattern]);
            for name in ["db.internal", "a.b.Internal", "db.internal.", ".internal"] {
                assert!(!passes(&names, name), "{pattern} {name}");
            }
            for name in ["internal", "notinternal", "internal.example", ""] {
                assert!(passes(&names, name), "{pattern} {name}");
            }
        }
        let names = names(&[], &["db.internal"]);
        assert!(!passes(&names, "DB.internal.") && passes(&names, "a.db.internal"));
    }

    #[test]
    fn with_allowed_names_all_others_are_denied() {
        let names = names(&["api.example", ".cdn.example"], &[]);
        for (name, pass) in [("api.example", true), ("x.cdn.example", true), ("cdn.example", false), ("other", false)] {
            assert_eq!(passes(&names, name), pass, "{name}");
        }
        assert!(names.denial_of_literals().is_some());
        assert!(!passes(&self::names(&[""], &[]), "example"), "an empty pattern matches nothing");
    }

    #[test]
    fn the_most_specific_pattern_decides_in_any_order() {
        let names = names(&[".", "www.a.example", ".x.a.example"], &[".a.example", "no.x.a.example"]);
        for (name, pass) in [
            ("b.example", true),
            ("a.example", true),
            ("z.a.example", false),
            ("www.a.example", true),
            ("y.x.a.example", true),
            ("no.x.a.example", false),
        ] {
            assert_eq!(passes(&names, name), pass, "{name}");
        }
        assert!(names.denial_of_literals().is_none());
        assert!(!passes(&self::names(&["a"], &["a"]), "a"), "denied at a tie");
        assert!(self::names(&[], &["*"]).denial_of_literals().is_some());
    }

    #[test]
    fn a_name_that_may_be_read_as_another_is_denied_if_names_matter() {
        for name in ["intern\\097l", "ｉnternal", "é"] {
            assert!(!passes(&names(&[], &["internal"]), name) && passes(&Names::default(), name));
        }
    }
}
