//! The operator of this command: the user and the machine, or the user and the page of a CI run.

use url::Url;

use super::environment;
use crate::foreign::without_secrets;
use crate::state::{Operator, RunOrigin, recorded_text};

/// How a CI service describes its runs in environment variables.
struct CiService {
    /// The user who started the run; the first variable with a value counts.
    users: &'static [&'static str],
    /// The page of the run, with variables in braces.
    url: &'static str,
}

/// Documented variables of CI services. A service is recognized by all variables of its page.
const SERVICES: &[CiService] = &[
    // GitHub Actions, Gitea and Forgejo
    CiService {
        users: &["GITHUB_TRIGGERING_ACTOR", "GITHUB_ACTOR"],
        url: "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}",
    },
    // GitLab
    CiService { users: &["GITLAB_USER_LOGIN"], url: "{CI_JOB_URL}" },
    // Buildkite
    CiService { users: &["BUILDKITE_UNBLOCKER", "BUILDKITE_BUILD_CREATOR"], url: "{BUILDKITE_BUILD_URL}" },
    // CircleCI
    CiService { users: &["CIRCLE_USERNAME"], url: "{CIRCLE_BUILD_URL}" },
    // Azure Pipelines
    CiService {
        users: &["BUILD_REQUESTEDFOR"],
        url: "{SYSTEM_COLLECTIONURI}{SYSTEM_TEAMPROJECT}/_build/results?buildId={BUILD_BUILDID}",
    },
    // Bitbucket Pipelines
    CiService {
        users: &[],
        url: "https://bitbucket.org/{BITBUCKET_REPO_FULL_NAME}/pipelines/results/{BITBUCKET_BUILD_NUMBER}",
    },
    // Drone
    CiService { users: &["DRONE_COMMIT_AUTHOR"], url: "{DRONE_BUILD_LINK}" },
    // Woodpecker
    CiService { users: &["CI_COMMIT_AUTHOR"], url: "{CI_PIPELINE_URL}" },
    // Travis CI
    CiService { users: &[], url: "{TRAVIS_JOB_WEB_URL}" },
    // Semaphore
    CiService { users: &[], url: "{SEMAPHORE_ORGANIZATION_URL}/jobs/{SEMAPHORE_JOB_ID}" },
    // AWS CodeBuild
    CiService { users: &["CODEBUILD_INITIATOR"], url: "{CODEBUILD_BUILD_URL}" },
    // Jenkins. Its variable has a common name, so it comes last.
    CiService { users: &["BUILD_USER_ID", "BUILD_USER"], url: "{BUILD_URL}" },
];

/// The users of the operating system. `sudo` names the one who called it.
const USERS: &[&str] = &["SUDO_USER", "USER", "LOGNAME", "USERNAME"];

/// The operator of this process.
pub(super) fn operator() -> Operator {
    of(&environment::variable, &environment::host())
}

/// The origin of a run of this process.
pub(super) fn origin(command: &str) -> RunOrigin {
    let words: Vec<String> =
        environment::words().iter().map(|word| without_secrets(word).into_owned()).collect();
    RunOrigin::new(command, &words, operator())
}

fn of(variable: &dyn Fn(&str) -> Option<String>, host: &str) -> Operator {
    let value = |name: &str| {
        variable(name).map(|text| recorded_text(&without_secrets(&text))).filter(|text| !text.is_empty())
    };
    let first = |names: &[&str]| names.iter().find_map(|name| value(name));
    let found = SERVICES.iter().find_map(|service| Some((service, page(service.url, &value)?)));
    let user = found.as_ref().and_then(|(service, _)| first(service.users)).or_else(|| first(USERS));
    Operator { user, host: Some(host.to_owned()), ci_url: found.map(|(_, url)| url) }
}

/// The page of a run. `None`: a variable is missing, or the text is no web address.
fn page(template: &str, value: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let (mut url, mut rest) = (String::new(), template);
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        url.push_str(before);
        url.push_str(&value(name)?);
        rest = after;
    }
    url.push_str(rest);
    let mut url = Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "https" | "http"))?;
    // Credentials in front of the host are no part of the page.
    url.set_username("").and_then(|()| url.set_password(None)).ok()?;
    Some(url.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator_of(variables: &[(&str, &str)]) -> Operator {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        of(&variable, "build-1")
    }

    /// Variables, the expected user and the expected page.
    type CiCase<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>, &'a str);

    #[test]
    fn each_ci_service_has_its_user_and_its_page() {
        let cases: &[CiCase<'_>] = &[
            (
                &[
                    ("GITHUB_SERVER_URL", "https://github.com"),
                    ("GITHUB_REPOSITORY", "acme/cohorts"),
                    ("GITHUB_RUN_ID", "17"),
                    ("GITHUB_ACTOR", "ben"),
                    ("GITHUB_TRIGGERING_ACTOR", "anna"),
                ],
                Some("anna"),
                "https://github.com/acme/cohorts/actions/runs/17",
            ),
            (
                &[("CI_JOB_URL", "https://gitlab.com/a/b/-/jobs/3"), ("GITLAB_USER_LOGIN", "anna")],
                Some("anna"),
                "https://gitlab.com/a/b/-/jobs/3",
            ),
            (
                &[
                    ("BUILDKITE_BUILD_URL", "https://buildkite.com/a/b/builds/1"),
                    ("BUILDKITE_BUILD_CREATOR", "Anna"),
                ],
                Some("Anna"),
                "https://buildkite.com/a/b/builds/1",
            ),
            (
                &[("CIRCLE_BUILD_URL", "https://circleci.com/gh/a/b/1"), ("CIRCLE_USERNAME", "anna")],
                Some("anna"),
                "https://circleci.com/gh/a/b/1",
            ),
            (
                &[
                    ("SYSTEM_COLLECTIONURI", "https://dev.azure.com/acme/"),
                    ("SYSTEM_TEAMPROJECT", "Growth Team"),
                    ("BUILD_BUILDID", "9"),
                    ("BUILD_REQUESTEDFOR", "Anna Smith"),
                ],
                Some("Anna Smith"),
                "https://dev.azure.com/acme/Growth%20Team/_build/results?buildId=9",
            ),
            (
                &[("BUILD_URL", "https://user:token@jenkins.acme.com/job/a/1/"), ("USER", "jenkins")],
                Some("jenkins"),
                "https://jenkins.acme.com/job/a/1/",
            ),
            (
                &[("BITBUCKET_REPO_FULL_NAME", "acme/cohorts"), ("BITBUCKET_BUILD_NUMBER", "4")],
                None,
                "https://bitbucket.org/acme/cohorts/pipelines/results/4",
            ),
        ];
        for (variables, user, url) in cases {
            let found = operator_of(variables);
            assert_eq!((found.user.as_deref(), found.ci_url.as_deref()), (*user, Some(*url)));
        }
    }

    #[test]
    fn without_ci_the_operator_is_the_user_of_the_system() {
        let found = operator_of(&[("USER", "syncline"), ("SUDO_USER", "anna")]);
        assert_eq!((found.to_string().as_str(), found.ci_url), ("anna@build-1", None));
        let partial = operator_of(&[
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_ACTOR", "ben"),
            ("LOGNAME", "anna"),
        ]);
        assert_eq!((partial.to_string().as_str(), partial.ci_url), ("anna@build-1", None));
        assert_eq!(operator_of(&[("BUILD_URL", "javascript:alert(1)"), ("USER", "")]).ci_url, None);
    }
}
