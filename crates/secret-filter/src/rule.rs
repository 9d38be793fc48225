//! The table of known formats.
//!
//! A rule needs a keyword that is part of every match; case does not matter. The pattern works on bytes: `\b`, `\w` and
//! `\s` concern ASCII only. The group `secret` is the credential; without it, the whole match is. `accept` may refuse a
//! match. If two rules match at one place, the first in the table names the mark.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use crate::value::{
    is_identifier, is_password, is_random_key, is_strongly_random, is_written_password,
};

/// Names of the rules that are not in the table.
pub(crate) const PRIVATE_KEY: &str = "private-key";
pub(crate) const PASSWORD: &str = "password";
pub(crate) const ASSIGNED_SECRET: &str = "assigned-secret";

/// Returns the names of all rules, without duplicates.
#[must_use]
pub fn rule_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    names.extend([PRIVATE_KEY, PASSWORD, ASSIGNED_SECRET]);
    names.sort_unstable();
    names.dedup();
    names
}

/// One format of credentials.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) keywords: &'static [&'static str],
    pub(crate) pattern: &'static str,
    pub(crate) accept: fn(&str) -> bool,
}

const fn rule(
    name: &'static str,
    keywords: &'static [&'static str],
    pattern: &'static str,
) -> Rule {
    Rule {
        name,
        keywords,
        pattern,
        accept: |_| true,
    }
}

impl Rule {
    const fn accept(mut self, accept: fn(&str) -> bool) -> Self {
        self.accept = accept;
        self
    }
}

#[rustfmt::skip]
pub(crate) static RULES: [Rule; 115] = [
    // Clouds.
    rule("aws-access-key", &["AKIA", "ASIA", "ABIA", "ACCA"], r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"),
    rule("aws-bedrock-key", &["ABSK"], r"\bABSK[A-Za-z0-9+/]{80,}={0,2}"),
    rule("aws-signature", &["X-Amz-Signature", "X-Amz-Security-Token"], r"\bX-Amz-(?:Signature|Security-Token)=(?P<secret>[A-Za-z0-9%+/=_-]{40,})"),
    rule("google-api-key", &["AIza"], r"\bAIza[A-Za-z0-9_-]{33,40}"),
    rule("google-oauth-secret", &["GOCSPX-"], r"\bGOCSPX-[A-Za-z0-9_-]{20,}"),
    rule("google-access-token", &["ya29."], r"\bya29\.[A-Za-z0-9_-]{30,}"),
    rule("google-refresh-token", &["1//0"], r"\b1//0[A-Za-z0-9_-]{40,}"),
    rule("google-signature", &["X-Goog-Signature"], r"\bX-Goog-Signature=(?P<secret>[0-9A-Fa-f]{64,})"),
    rule("azure-client-secret", &["Q~"], r"(?:\b|[_.~-])[A-Za-z0-9_~.-]{2,3}\dQ~[A-Za-z0-9_~.-]{31,34}"),
    rule("azure-sas", &["sig="], r"(?:[?&;]|\b)sig=(?P<secret>[A-Za-z0-9%+/=_-]{40,})"),
    rule("alibaba-key", &["LTAI"], r"\bLTAI[A-Za-z0-9]{16,24}\b").accept(is_random_key),
    rule("tencent-key", &["AKID"], r"\bAKID[A-Za-z0-9]{32}\b"),
    rule("digitalocean-token", &["do"], r"\bdo[opr]_v1_[a-f0-9]{64}\b"),
    rule("scaleway-key", &["SCW"], r"\bSCW[A-Z0-9]{17}\b"),
    rule("cloudflare-token", &["v1.0-"], r"\bv1\.0-[a-f0-9]{24}-[a-f0-9]{100,}"),
    rule("heroku-key", &["HRKU-"], r"\bHRKU-[A-Za-z0-9_-]{30,}"),
    rule("fly-token", &["fm1", "fm2", "fo1_"], r"\b(?:fm[12][ar]?|fo1)_[A-Za-z0-9+/=_-]{40,}(?:,fm[12][ar]?_[A-Za-z0-9+/=_-]{40,})*"),
    rule("netlify-token", &["nfp_", "nfc_", "nfo_", "nfu_"], r"\bnf[pcou]_[A-Za-z0-9]{36,}"),
    rule("vercel-token", &["vcp_", "vci_", "vca_", "vcr_", "vck_"], r"\bvc[piark]_[A-Za-z0-9]{24,}"),
    rule("render-key", &["rnd_"], r"\brnd_[A-Za-z0-9]{28,}").accept(is_random_key),
    // Source code and packages.
    rule("github-token", &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"], r"\bgh[pousr]_[A-Za-z0-9]{30,}"),
    rule("github-fine-grained-token", &["github_pat_"], r"\bgithub_pat_[A-Za-z0-9_]{36,}"),
    rule("gitlab-token", &["gl"], r"\bgl(?:pat|rt|dt|ptt|oas|soat|ft|imt|agent|cbt|ffct|rtr|wt)-[A-Za-z0-9_-]{20,}(?:\.[0-9a-z]{2}\.[0-9a-z]{9})?"),
    rule("bitbucket-token", &["ATBB", "ATCTT3"], r"\b(?:ATBB|ATCTT3)[A-Za-z0-9_=-]{24,}"),
    rule("npm-token", &["npm_"], r"\bnpm_[A-Za-z0-9]{30,}"),
    rule("pypi-token", &["pypi-AgE"], r"\bpypi-AgE[A-Za-z0-9_-]{40,}"),
    rule("rubygems-key", &["rubygems_"], r"\brubygems_[a-f0-9]{48}\b"),
    rule("crates-token", &["cio"], r"\bcio[A-Za-z0-9]{32}\b").accept(is_strongly_random),
    rule("nuget-key", &["oy2"], r"\boy2[a-z0-9]{43}\b"),
    rule("docker-token", &["dckr_"], r"\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}"),
    rule("docker-config", &["auth"], r#"["']auth\\*["']\s*:\s*\\*["'](?P<secret>[A-Za-z0-9+/]{8,}={0,2})"#).accept(decodes_to_pair),
    rule("artifactory-key", &["AKCp", "cmVmd"], r"\b(?:AKCp[A-Za-z0-9]{60,}|cmVmd[A-Za-z0-9]{55,})"),
    rule("sourcegraph-token", &["sgp_"], r"\bsgp_(?:[a-f0-9]{16}_|local_)?[a-f0-9]{40}\b"),
    rule("buildkite-token", &["bkua_"], r"\bbkua_[a-f0-9]{40}\b"),
    rule("circleci-token", &["CCIP"], r"\bCCIP(?:AT|RJ)_[A-Za-z0-9_]{20,}"),
    rule("sonar-token", &["sqp_", "squ_", "sqa_"], r"\bsq[pua]_[a-f0-9]{40}\b"),
    rule("terraform-token", &[".atlasv1."], r"\b[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,}"),
    rule("pulumi-token", &["pul-"], r"\bpul-[a-f0-9]{40}\b"),
    rule("postman-key", &["PMAK-"], r"\bPMAK-[a-f0-9]{24}-[a-f0-9]{34}\b"),
    rule("prefect-token", &["pnu_", "pnb_"], r"\bpn[ub]_[A-Za-z0-9]{36}\b"),
    // Secret stores, networks and operations.
    rule("vault-token", &["hvs.", "hvb.", "hvr."], r"\bhv[sbr]\.[A-Za-z0-9_-]{24,}"),
    rule("doppler-token", &["dp."], r"\bdp\.(?:pt|st|ct|sa|scim|audit)\.(?:[a-z0-9_-]{2,35}\.)?[A-Za-z0-9]{40,}"),
    rule("memory-token", &["cmm_"], r"\bcmm_[A-Za-z0-9_-]{43}"),
    rule("onepassword-token", &["ops_eyJ"], r"\bops_eyJ[A-Za-z0-9+/=_-]{60,}"),
    rule("age-key", &["AGE-SECRET-KEY-"], r"(?i)\bAGE-SECRET-KEY-(?:PQ-)?1[A-Z0-9]{50,}"),
    rule("tailscale-key", &["tskey-"], r"\btskey-(?:[a-z]+-)?[A-Za-z0-9]{8,}-[A-Za-z0-9]{16,}"),
    rule("grafana-token", &["glsa_", "glc_"], r"\b(?:glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}\b|glc_[A-Za-z0-9+/]{32,}={0,2})"),
    rule("grafana-key", &["eyJrIjoi"], r"\beyJrIjoi[A-Za-z0-9+/]{40,}={0,2}"),
    rule("new-relic-key", &["NRAK-", "NRII-", "NRJS-", "NRAL"], r"\b(?:NRAK-[A-Z0-9]{27}|NRII-[A-Za-z0-9_-]{32}|NRJS-[a-f0-9]{19}|[a-f0-9]{36}NRAL)\b"),
    rule("sentry-token", &["sntry"], r"\bsntry[sua]_[A-Za-z0-9+/=_-]{40,}"),
    rule("dynatrace-token", &["dt0"], r"\bdt0[a-z]\d\d\.[A-Z0-9]{24}\.[A-Z0-9]{64}\b"),
    rule("datadog-webhook", &["dd-api-key"], r"(?i)\bdd-api-key[:=]\s*(?P<secret>[a-f0-9]{32})\b"),
    rule("databricks-token", &["dapi"], r"\bdapi[a-f0-9]{32}(?:-\d)?\b"),
    rule("planetscale-token", &["pscale_"], r"\bpscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=-]{32,}"),
    rule("supabase-token", &["sbp_", "sb_secret_"], r"\b(?:sbp_(?:oauth_)?[a-f0-9]{40}\b|sb_secret_[A-Za-z0-9_-]{20,})"),
    rule("snyk-token", &["snyk_"], r"\bsnyk_[a-z]{3}\.[a-f0-9]{8}\.[A-Za-z0-9_-]{30,}"),
    // Messages and mail.
    rule("slack-token", &["xox"], r"\bxox[abceoprs](?:\.xox[abp])?-(?:\d-)?[A-Za-z0-9-]{16,}").accept(has_digit),
    rule("slack-app-token", &["xapp-"], r"\bxapp-\d-[A-Z0-9]+-\d+-[a-z0-9]{30,}"),
    rule("slack-webhook", &["hooks.slack"], r"\bhooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/[A-Za-z0-9]+/[A-Za-z0-9]+/(?P<secret>[A-Za-z0-9/]{16,})"),
    rule("telegram-bot-token", &[":AA"], r"(?:\b|bot)(?P<secret>\d{8,10}:AA[A-Za-z0-9_-]{30,36})"),
    rule("discord-webhook", &["/webhooks/"], r"\bdiscord(?:app)?\.com/api/(?:v\d+/)?webhooks/\d+/(?P<secret>[A-Za-z0-9_-]{40,})"),
    rule("discord-bot-token", &["."], r"\b(?:mfa\.[A-Za-z0-9_-]{80,}|[MNO][A-Za-z0-9_-]{22,28}\.[A-Za-z0-9_-]{6,7}\.[A-Za-z0-9_-]{27,45})").accept(is_strongly_random),
    rule("teams-webhook", &["IncomingWebhook"], r"/IncomingWebhook/(?P<secret>[a-f0-9]{32}/[a-f0-9-]{36})"),
    rule("sendgrid-key", &["SG."], r"\bSG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}"),
    rule("mailgun-key", &["key-", "-"], r"\b(?:key-(?P<secret>[a-f0-9]{32})\b|[a-f0-9]{32}-[a-f0-9]{8}-[a-f0-9]{8}\b)"),
    rule("mailchimp-key", &["-us"], r"\b[a-f0-9]{32}-us\d{1,2}\b"),
    rule("brevo-key", &["xkeysib-", "xsmtpsib-"], r"\bx(?:key|smtp)sib-[a-f0-9]{64}-[A-Za-z0-9]{16}\b"),
    rule("postmark-token", &["X-Postmark"], r"(?i)\bX-Postmark-(?:Server|Account)-Token\W{1,4}(?P<secret>[a-f0-9-]{36})"),
    rule("twilio-key-pair", &["SK"], r#"\bSK[a-f0-9]{32}\b["'\\]{0,2}\s*[,:]\s*["'\\]{0,2}(?P<secret>[A-Za-z0-9]{32})\b"#),
    rule("twilio-key", &["SK"], r"\bSK[a-f0-9]{32}\b"),
    rule("twilio-auth-token", &["AC"], r#"\bAC[a-f0-9]{32}\b["'\\]{0,2}\s*[,:]\s*["'\\]{0,2}(?P<secret>[a-f0-9]{32})\b"#),
    // Payments and shops.
    rule("stripe-key", &["k_live_", "k_test_"], r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    rule("stripe-webhook-secret", &["whsec_"], r"\bwhsec_[A-Za-z0-9+/]{24,}={0,2}"),
    rule("square-token", &["sq0", "EAAA"], r"\b(?:sq0[a-z]{3}-[A-Za-z0-9_-]{22,}|EAAA[A-Za-z0-9_-]{60})"),
    rule("shopify-token", &["shp"], r"\bshp(?:at|ca|pa|ss|tka)_[A-Fa-f0-9]{32}\b"),
    rule("plaid-token", &["access-"], r"\baccess-(?:sandbox|development|production)-[a-f0-9]{8}(?:-[a-f0-9]{4}){3}-[a-f0-9]{12}\b"),
    rule("easypost-key", &["EZAK", "EZTK"], r"\bEZ[AT]K[A-Za-z0-9]{54}\b"),
    rule("shippo-token", &["shippo_"], r"\bshippo_(?:live|test)_[a-f0-9]{40}\b"),
    rule("flutterwave-key", &["FLWSECK"], r"\bFLWSECK(?:_TEST|_LIVE)?-[A-Za-z0-9]{12,}"),
    // Models.
    rule("anthropic-key", &["sk-ant-"], r"\bsk-ant-[a-z0-9]+-[A-Za-z0-9_-]{24,}"),
    rule("openrouter-key", &["sk-or-"], r"\bsk-or-(?:v1-)?[A-Za-z0-9]{32,}"),
    rule("openai-key", &["sk-"], r"\bsk-(?:proj-|svcacct-|admin-|None-)?[A-Za-z0-9_-]{20,}").accept(is_random_key),
    rule("huggingface-token", &["hf_", "api_org_"], r"\b(?:hf|api_org)_[A-Za-z0-9]{30,}"),
    rule("groq-key", &["gsk_"], r"\bgsk_[A-Za-z0-9]{40,}"),
    rule("replicate-token", &["r8_"], r"\br8_[A-Za-z0-9]{36,}"),
    rule("perplexity-key", &["pplx-"], r"\bpplx-[A-Za-z0-9]{40,}"),
    rule("xai-key", &["xai-"], r"\bxai-[A-Za-z0-9]{60,}"),
    rule("langsmith-key", &["lsv2_"], r"\blsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10}\b"),
    rule("tavily-key", &["tvly-"], r"\btvly-(?:dev-|prod-)?[A-Za-z0-9_-]{20,}").accept(is_random_key),
    // Applications.
    rule("atlassian-token", &["ATATT3"], r"\bATATT3[A-Za-z0-9_-]{40,}(?:=[A-F0-9]{8})?"),
    rule("linear-key", &["lin_"], r"\blin_(?:api|oauth|wh)_[A-Za-z0-9_]{32,}"),
    rule("notion-token", &["ntn_", "secret_"], r"\b(?:ntn_[A-Za-z0-9]{40,}|secret_[A-Za-z0-9]{43}\b)"),
    rule("figma-token", &["fig"], r"\bfig[doru]_[A-Za-z0-9_-]{36,}"),
    rule("airtable-token", &["pat"], r"\bpat[A-Za-z0-9]{14}\.[a-f0-9]{64}\b"),
    rule("dropbox-token", &["sl."], r"\bsl\.(?:u\.)?[A-Za-z0-9_-]{60,}"),
    rule("facebook-token", &["EAA"], r"\bEAA[A-Za-z0-9]{80,}"),
    rule("contentful-token", &["CFPAT-"], r"\bCFPAT-[A-Za-z0-9_-]{40,}"),
    rule("posthog-key", &["phx_"], r"\bphx_[A-Za-z0-9_]{40,}"),
    rule("mapbox-token", &["sk.eyJ"], r"\bsk\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{16,}"),
    rule("twitter-bearer", &["AAAAAAAAAAAAAAAAAAAAA"], r"\bA{21,22}[A-Za-z0-9]{8,}%[A-Za-z0-9%]{30,}"),
    rule("typeform-token", &["tfp_"], r"\btfp_[A-Za-z0-9_-]{40,}"),
    // Formats that many services share.
    rule("jwt", &["eyJ"], r"\beyJ[A-Za-z0-9_-]{8,}\.(?:eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}|[A-Za-z0-9_-]*\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,})"),
    rule("jwk-private-key", &["\"kty"], r#"\\*"(?:d|p|q|k)\\*"\s*:\s*\\*"(?P<secret>[A-Za-z0-9_-]{22,})"#),
    rule("putty-private-key", &["Private-Lines:"], r"Private-Lines: \d+\s+(?P<secret>(?:[A-Za-z0-9+/=]{16,}\s+)*[A-Za-z0-9+/=]{16,})"),
    rule("basic-auth", &["basic"], r"(?i)\bbasic\s+(?P<secret>[A-Za-z0-9+/]{8,}={0,2})").accept(decodes_to_pair),
    rule("bearer-token", &["bearer"], r"(?i)\bbearer\s+(?P<secret>[A-Za-z0-9._~+/=-]{16,})").accept(is_random_key),
    rule("authorization-header", &["authorization"], r#"(?i)\bauthorization\\*["']?\s*[:=]\s*\\*["']?(?:[A-Za-z-]+\s+)?(?:token=)?(?P<secret>[A-Za-z0-9._~+/=-]{16,})"#).accept(is_random_key),
    rule("session-cookie", &["sess", "connect.sid"], r"(?i)\b(?:jsessionid|phpsessid|sessionid|laravel_session|connect\.sid)=(?P<secret>[A-Za-z0-9%._~+/=-]{16,})").accept(is_random_key),
    rule("url-password", &["://"], r#"\b[A-Za-z][A-Za-z0-9+.-]{1,30}://[^\s/:@"'<>`]*:(?P<secret>[^\s/"'<>`]+)@"#).accept(is_written_password),
    rule("url-token", &["://"], r"\b[A-Za-z][A-Za-z0-9+.-]{1,30}://(?P<secret>[A-Za-z0-9_-]{20,})@").accept(is_strongly_random),
    rule("pgpass", &[":"], r"(?:[A-Za-z0-9_.*-]+):(?:\d{2,5}|\*):[A-Za-z0-9_*-]+:[A-Za-z0-9_*-]+:(?P<secret>[^\s:]{6,})").accept(is_strongly_random),
    rule("netrc", &["login"], r"\blogin\s+\S+\s+password\s+(?P<secret>\S{3,})").accept(is_written_password),
    rule("curl-user", &["curl"], r#"\bcurl\b[^\n]*?\s(?:-u|--user)[\s=]*["']?[^\s:"'$]+:(?P<secret>[^\s"']{3,})"#).accept(is_written_password),
    rule("command-password", &["mysql", "mariadb", "sshpass", "redis-cli", "login"], r#"\b(?:(?:mysql|mariadb)[a-z]*\b[^\n|;]*?\s-p|sshpass\s+-p\s*|redis-cli\b[^\n|;]*?\s-a\s+|login\b[^\n|;]*?\s-p\s+)["']?(?P<secret>[^\s"'|;]{4,})"#).accept(is_password),
    rule("command-option", &["--"], r#"\s--?(?:[A-Za-z]+-)*(?:password|passwd|pass|token|secret|api-?key|auth-?key|access-key|secret-key)\s+["']?(?P<secret>[^\s"'`<>|]{8,})"#).accept(is_password),
];

fn has_digit(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit()) && !is_identifier(text)
}

/// Returns whether a text is the base64 form of `user:password`.
fn decodes_to_pair(text: &str) -> bool {
    let decoded = STANDARD
        .decode(text)
        .or_else(|_| STANDARD_NO_PAD.decode(text));
    decoded
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .is_some_and(|pair| pair.contains(':') && !pair.chars().any(char::is_control))
}
