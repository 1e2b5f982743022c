//! The chart, as Helm renders it.

use std::collections::BTreeSet;

use controller::rbac::{self, Rule};
use serde_json::Value;

use crate::kubectl::{helm, run};

/// The objects of the chart, for some values.
async fn render(arguments: &str) -> Vec<Value> {
    let rendered = helm(&format!(
        "template postern charts/postern --namespace postern-system {arguments}"
    ))
    .await;
    // kubectl turns YAML into JSON without asking the cluster for anything.
    let output = run(
        "kubectl",
        "create --dry-run=client --validate=false --output=json --filename=-",
        &rendered,
    )
    .await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    // One object prints as itself, several one after the other.
    let objects = serde_json::Deserializer::from_str(&printed).into_iter::<Value>();
    objects
        .map(|object| object.expect("kubectl prints JSON"))
        .collect()
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("the chart renders no {kind} {name}"))
}

/// A rule in a form that can be compared.
type Comparable = [BTreeSet<String>; 4];

fn rendered_rules(role: &Value) -> BTreeSet<Comparable> {
    let words = |rule: &Value, field: &str| {
        let words = rule[field].as_array().cloned().unwrap_or_default();
        words
            .iter()
            .filter_map(|word| word.as_str().map(str::to_owned))
            .collect()
    };
    let rules = role["rules"].as_array().expect("a role has rules");
    rules
        .iter()
        .map(|rule| {
            ["apiGroups", "resources", "resourceNames", "verbs"].map(|field| words(rule, field))
        })
        .collect()
}

fn named_rules(rules: &[Rule]) -> BTreeSet<Comparable> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    rules
        .iter()
        .map(|rule| {
            [
                rule.api_groups,
                rule.resources,
                rule.resource_names,
                rule.verbs,
            ]
            .map(words)
        })
        .collect()
}

#[tokio::test]
async fn its_roles_are_what_the_code_uses() {
    let objects = render("").await;
    for (kind, name, rules) in [
        ("ClusterRole", "postern-controller", rbac::CLUSTER),
        (
            "ClusterRole",
            "postern-controller-watched",
            rbac::NAMESPACED,
        ),
        ("Role", "postern-controller", rbac::OWN),
    ] {
        assert_eq!(
            rendered_rules(find(&objects, kind, name)),
            named_rules(rules),
            "{kind} {name}"
        );
    }
    let roles = objects
        .iter()
        .filter(|object| {
            object["kind"]
                .as_str()
                .is_some_and(|kind| kind.ends_with("Role"))
        })
        .count();
    assert_eq!(roles, 3, "there are roles that no test looks at");
}

#[tokio::test]
async fn the_admin_api_is_off_and_brings_its_rights_along() {
    let off = render("").await;
    let ports = |objects: &[Value]| {
        let service = find(objects, "Service", "postern-controller");
        service["spec"]["ports"].as_array().map(Vec::len)
    };
    assert_eq!(ports(&off), Some(1));
    let on = render("--set adminApi.enabled=true --set adminApi.tlsSecret=postern-admin-tls").await;
    assert_eq!(ports(&on), Some(2));
    for (kind, name, rules, more) in [
        (
            "ClusterRole",
            "postern-controller",
            rbac::CLUSTER,
            rbac::ADMIN_CLUSTER,
        ),
        (
            "ClusterRole",
            "postern-controller-watched",
            rbac::NAMESPACED,
            rbac::ADMIN_NAMESPACED,
        ),
        ("Role", "postern-controller", rbac::OWN, rbac::ADMIN_OWN),
    ] {
        assert_eq!(
            rendered_rules(find(&on, kind, name)),
            named_rules(&[rules, more].concat()),
            "{kind} {name}"
        );
    }
}

#[tokio::test]
async fn services_with_their_gateways_bring_their_rights_along() {
    let objects = render("--set controller.gatewayService.namespace=gateway").await;
    for (kind, name, rules, more) in [
        (
            "ClusterRole",
            "postern-controller",
            rbac::CLUSTER,
            rbac::GATEWAY_CLUSTER,
        ),
        (
            "ClusterRole",
            "postern-controller-watched",
            rbac::NAMESPACED,
            &[],
        ),
        (
            "ClusterRole",
            "postern-controller-services",
            &[],
            rbac::GATEWAY_NAMESPACED,
        ),
        ("Role", "postern-controller", rbac::OWN, rbac::GATEWAY_OWN),
    ] {
        assert_eq!(
            rendered_rules(find(&objects, kind, name)),
            named_rules(&[rules, more].concat()),
            "{kind} {name}"
        );
    }
    find(
        &objects,
        "ClusterRoleBinding",
        "postern-controller-services",
    );
}

/// Tokens can be looked after where all proxies have the same, and the controller holds the store's key for nothing else.
#[tokio::test]
async fn the_controller_reaches_the_store_for_the_admin_api_alone() {
    let redis = "--set proxy.store.url=redis://redis";
    let admin = "--set adminApi.enabled=true";
    let by_secret = "--set proxy.store.existingUrlSecret=redis-url";
    for (values, reaches) in [
        (redis.to_owned(), false),
        (admin.to_owned(), false),
        (format!("{admin} {redis}"), true),
        (format!("{admin} {by_secret}"), true),
    ] {
        let objects = render(&values).await;
        let store = |name: &str| {
            let pod = &find(&objects, "Deployment", name)["spec"]["template"]["spec"];
            let container = &pod["containers"][0];
            let of = |list: &Value, wanted: &dyn Fn(&str) -> bool| -> Vec<Value> {
                let list = list.as_array().into_iter().flatten();
                let wanted = list.filter(|one| one["name"].as_str().is_some_and(wanted));
                wanted.cloned().collect()
            };
            (
                of(&container["env"], &|name| name.starts_with("POSTERN_STORE")),
                of(&container["volumeMounts"], &|name| name == "store"),
                of(&pod["volumes"], &|name| name == "store"),
            )
        };
        let (proxies, controllers) = (store("postern-proxy"), store("postern-controller"));
        assert!(proxies.0.len() >= 3 && !proxies.2.is_empty(), "{proxies:?}");
        if reaches {
            assert_eq!(controllers, proxies, "{values}");
        } else {
            assert_eq!(controllers, <_>::default(), "{values}");
        }
    }
}

#[tokio::test]
async fn with_namespaces_to_watch_nothing_else_may_be_read_or_written() {
    let objects = render(
        "--set controller.watchNamespaces={shop,blog} --set controller.gatewayService.namespace=gateway",
    )
    .await;
    let bindings = |kind: &str, role: &str| -> BTreeSet<_> {
        let bound = objects
            .iter()
            .filter(|object| object["kind"] == kind && object["roleRef"]["name"] == role);
        bound
            .map(|binding| {
                binding["metadata"]["namespace"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect()
    };
    for role in ["postern-controller-watched", "postern-controller-services"] {
        assert_eq!(
            bindings("RoleBinding", role),
            ["blog", "shop"].map(str::to_owned).into(),
            "{role}"
        );
        assert!(bindings("ClusterRoleBinding", role).is_empty(), "{role}");
    }
}

#[tokio::test]
async fn it_lints_and_refuses_values_that_do_not_fit() {
    helm("lint --strict charts/postern").await;
    for (value, says) in [
        ("proxy.replicas=0", "/proxy/replicas"),
        ("proxy.replcas=2", "replcas"),
        ("proxy.service.type=ExternalName", "/proxy/service/type"),
        (
            "proxy.trustedProxies={everybody}",
            "/proxy/trustedProxies/0",
        ),
        ("image.digest=sha256:12", "/image/digest"),
        (
            "controller.gatewayService.namespace=shop",
            "/controller/gatewayService/namespace",
        ),
    ] {
        let output = run(
            "helm",
            &format!("template postern charts/postern --set {value}"),
            "",
        )
        .await;
        let refusal = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && refusal.contains(says),
            "{value}: {refusal}"
        );
    }
}

#[tokio::test]
async fn a_pod_has_longer_to_end_than_its_drain_takes() {
    let objects =
        render("--set proxy.drainDelaySeconds=10 --set proxy.drainTimeoutSeconds=300").await;
    let pod = &find(&objects, "Deployment", "postern-proxy")["spec"]["template"]["spec"];
    assert!(
        pod["terminationGracePeriodSeconds"].as_u64() > Some(310),
        "{pod}"
    );
}

/// The two classes are what compile looks for, and a budget exists only where a pod may be missed.
#[tokio::test]
async fn classes_and_budgets_follow_the_values() {
    let objects = render("--api-versions gateway.networking.k8s.io/v1/GatewayClass").await;
    assert_eq!(
        find(&objects, "GatewayClass", "postern")["spec"]["controllerName"],
        "postern.dev/gateway-controller"
    );
    assert_eq!(
        find(&objects, "IngressClass", "postern")["spec"]["controller"],
        "postern.dev/ingress-controller"
    );
    find(&objects, "PodDisruptionBudget", "postern-proxy");
    assert!(
        !objects
            .iter()
            .any(|object| object["kind"] == "PodDisruptionBudget"
                && object["metadata"]["name"] == "postern-controller")
    );

    let objects = render("--set ingressClass.create=false --set controller.replicas=2").await;
    find(&objects, "PodDisruptionBudget", "postern-controller");
    assert!(
        !objects
            .iter()
            .any(|object| object["kind"] == "IngressClass" || object["kind"] == "GatewayClass")
    );
}

/// A variable that the program does not know would be ignored in silence.
#[tokio::test]
async fn every_variable_it_sets_is_a_flag_of_the_program() {
    let program = std::env::var("POSTERN").expect("suite.sh sets POSTERN");
    let everything = "--set proxy.workers=2 --set proxy.trustedProxies={10.0.0.0/8} --set controller.watchNamespaces={shop} \
                      --set controller.gatewayService.annotations.a=b --set controller.gatewayService.namespace=gateway --set adminApi.enabled=true \
                      --set adminApi.hosts={admin.test} --set adminApi.tlsSecret=tls \
                      --set proxy.store.url=rediss://redis --set proxy.store.replicas=1 \
                      --set proxy.store.existingPasswordSecret=redis --set proxy.store.existingCaSecret=redis-ca";
    let objects = render(everything).await;
    for command in ["controller", "proxy"] {
        let help = run(&program, &format!("{command} --help"), "").await;
        // It is wrapped to the width of a terminal.
        let help: Vec<_> = String::from_utf8_lossy(&help.stdout)
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let help = help.join(" ");
        let deployment = find(&objects, "Deployment", &format!("postern-{command}"));
        let variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
            .as_array()
            .expect("env is set");
        assert!(variables.len() > 5, "{variables:?}");
        for name in variables
            .iter()
            .filter_map(|variable| variable["name"].as_str())
        {
            assert!(
                help.contains(&format!("[env: {name}]")),
                "`postern {command}` has no flag for {name}"
            );
        }
    }
}
