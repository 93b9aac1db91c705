//! What a configuration becomes for the crates below: the snapshot, the session store, the time-outs.

use core::net::IpAddr;
use core::time::Duration;
use lvs_core::addr::{Family, RealAddr};
use lvs_core::flow::L4Proto;
use lvs_core::persistence::{Persistence, Since};
use lvs_core::plan::PortPlan;
use lvs_core::service::{
    ClientAddrMode, Forwarding, NoToaRoom, ServerState, TimestampPolicy, ToaFormat, ToaOptions,
    ToaPlacement,
};
use lvs_core::session::{SessionStore, TcpState};
use lvs_core::shared::Thresholds;
use lvs_core::snapshot::{SelfOwner as CoreOwner, Snapshot};
use lvs_core::timeouts::{SctpPhase, Timeouts};
use lvsd::config::schema::TIMEOUTS;
use lvsd::config::{self, BuildError, Config, Profile, Secrets, SelfOwner};

fn parsed(text: &str) -> Config {
    match config::parse("test", text) {
        Ok(loaded) => loaded.config,
        Err(report) => panic!("{}", report.render(false)),
    }
}

fn good() -> Config {
    parsed(include_str!("config/good.toml"))
}

fn snapshot(config: &Config) -> Snapshot {
    let spec =
        config.snapshot_spec(config::schedulers(), SelfOwner::Kernel).expect("known schedulers");
    spec.build(None).expect("the rules refuse what a snapshot refuses")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The option of a service with these lines in `[service.toa]`.
fn toa_of(lines: &str) -> ToaOptions {
    let text = format!(
        "[[port]]\nname = \"lan\"\naddresses = [\"10.0.0.1/24\"]\n[[local_pool]]\nname = \"in\"\n\
         addresses = [\"10.0.0.100\"]\n[[service]]\naddress = \"10.0.0.80:80\"\nlocal_pool = \"in\"\n\
         [service.toa]\n{lines}\n[[service.server]]\naddress = \"10.0.0.11:80\"\n"
    );
    let loaded = config::parse("toa.toml", &text).unwrap_or_else(|report| {
        panic!("{}", report.render(false));
    });
    match snapshot(&loaded.config).services().next().expect("one").client_addr {
        ClientAddrMode::Toa(toa) => toa,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_address_option_goes_where_and_looks_as_its_section_says() {
    let base = ToaOptions::default();
    assert_eq!(toa_of(""), base);
    let place = |syn, handshake, until_server_data| ToaOptions {
        placement: ToaPlacement { syn, handshake, until_server_data },
        ..base
    };
    for (lines, expected) in [
        ("placement = \"syn\"", place(true, false, false)),
        ("placement = \"handshake\"", place(false, true, false)),
        ("placement = \"until-server-data\"", place(false, false, true)),
        ("placement = [\"syn\", \"handshake\"]", place(true, true, false)),
        ("placement = [\"all\"]", base),
        ("no_room = \"proxy-v2\"", ToaOptions { no_room: NoToaRoom::Proxy, ..base }),
        ("no_room = \"drop\"", ToaOptions { no_room: NoToaRoom::Drop, ..base }),
        ("format = \"with-virtual\"", ToaOptions { format: ToaFormat::WithVirtual, ..base }),
        (
            "kind_v4 = 28\nkind_v6 = 200\nformat = \"versioned\"",
            ToaOptions { kind_v4: 28, kind_v6: 200, format: ToaFormat::Versioned, ..base },
        ),
    ] {
        assert_eq!(toa_of(lines), expected, "{lines}");
    }
}

#[test]
fn a_configuration_becomes_the_snapshot_that_it_describes() {
    let config = good();
    let snapshot = snapshot(&config);
    let web = snapshot.find_service(L4Proto::Tcp, ip("10.0.0.80"), 80).expect("configured");
    assert_eq!(web.forwarding, Forwarding::FullNat);
    assert_eq!((web.scheduler.name, web.timestamps), ("wrr", TimestampPolicy::Strip));
    let ClientAddrMode::Toa(toa) = web.client_addr else { panic!("{:?}", web.client_addr) };
    assert_eq!((toa.kind_v4, toa.kind_v6, toa.no_room), (254, 254, NoToaRoom::SeparateAck));
    assert!(toa.placement.syn && toa.placement.until_server_data);
    assert!(!web.flags.trust_toa);
    let servers: Vec<_> = web.servers.iter().filter_map(|id| snapshot.server(*id)).collect();
    let shares: Vec<_> = servers.iter().map(|server| (server.addr, server.weight.0)).collect();
    let server = |last, weight| (RealAddr::new(ip(&format!("10.1.0.{last}")), 8080), weight);
    assert_eq!(shares, [server(11, 1), server(12, 3)]);

    let dns = snapshot.find_service(L4Proto::Udp, ip("10.0.0.53"), 53).expect("configured");
    assert_eq!((dns.forwarding, dns.scheduler.name), (Forwarding::Nat, "rr"));
    assert_eq!((dns.client_addr, dns.pool), (ClientAddrMode::None, None));
    assert_eq!(dns.timestamps, TimestampPolicy::Keep);

    let pool = snapshot.pool(web.pool.expect("fullnat")).expect("configured");
    assert_eq!(pool.of(Family::V4).len(), 11);
    assert!(snapshot.role(&ip("10.1.0.105")).local.is_some());
    assert!(snapshot.role(&ip("10.0.0.80")).virt);
    assert_eq!(snapshot.role(&ip("10.1.0.1")).own.map(|port| port.0), Some(1));
    let out = snapshot.route(ip("192.0.2.1")).expect("the default route");
    assert_eq!((out.port.0, out.via), (0, ip("10.0.0.254")));
    assert_eq!(snapshot.route(ip("10.1.0.11")).map(|hop| hop.port.0), Some(1));
    assert!(snapshot.interfaces().iter().all(|port| port.owner == CoreOwner::Host));
}

#[test]
fn a_port_says_who_answers_for_it_and_else_the_command_does() {
    let text = "[[port]]\nname = \"a\"\n[[port]]\nname = \"b\"\nself_owner = \"kernel\"\n";
    let spec = parsed(text).snapshot_spec(&[], SelfOwner::Director).expect("no service");
    let owners: Vec<_> = spec.interfaces.iter().map(|port| port.owner).collect();
    assert_eq!(owners, [CoreOwner::Director, CoreOwner::Host]);
}

#[test]
fn a_scheduler_that_is_not_there_is_named() {
    let error = good()
        .snapshot_spec(&[&lvs_sched::rr::DEF], SelfOwner::Kernel)
        .expect_err("wrr is missing");
    assert_eq!(error, BuildError::Scheduler("wrr".to_owned()));
}

#[test]
fn the_session_store_has_a_slot_for_each_local_port_and_the_nat_sessions() {
    let config = good();
    let store = config.store_config(7);
    assert_eq!((store.v4.local_addresses, store.v4.general), (11, 65_536));
    assert_eq!((store.v6.local_addresses, store.v6.general), (0, 0));
    assert_eq!(config.port_plan().slots(), 64_511);
    let memory = config.session_memory().expect("small");
    assert_eq!(SessionStore::memory_for(&store, &config.port_plan()), Some(memory));
    assert_eq!(store, config.store_config(7));
    assert_ne!(store, config.store_config(8));
}

#[test]
fn the_ports_of_a_pool_are_those_of_the_plan() {
    let text = include_str!("config/good.toml")
        .replace("[[service]]\nname", "[[local_pool]]\nname = \"x\"\naddresses = [\"10.1.0.200\"]\nports = \"2000-2999\"\n[[service]]\nname")
        .replace("addresses = [\"10.1.0.100\"", "ports = \"2000-2999\"\naddresses = [\"10.1.0.100\"");
    let config = parsed(&text);
    assert_eq!(config.port_plan().slots(), 1000);
    assert_eq!(config.store_config(0).v4.local_addresses, 12);
}

/// In the order of the schema, without `profile`: eleven TCP states by name, UDP, echo, four phases of SCTP.
fn value(timeouts: &Timeouts, key: &str) -> Duration {
    let phase = |phase: &SctpPhase| {
        key.strip_prefix("sctp_").is_some_and(|name| name == format!("{phase:?}").to_lowercase())
    };
    if let Some(phase) = SctpPhase::ALL.into_iter().find(phase) {
        return timeouts.sctp(phase);
    }
    let state = |state: &TcpState| key.strip_prefix("tcp_") == Some(&state_key(*state));
    let other = if key == "icmp" { timeouts.icmp() } else { timeouts.udp() };
    TcpState::ALL.into_iter().find(state).map_or(other, |state| timeouts.tcp(state))
}

/// The name of a state as configuration keys have it.
fn state_key(state: TcpState) -> String {
    match state {
        TcpState::None => "none",
        TcpState::Established => "established",
        TcpState::SynSent => "syn_sent",
        TcpState::SynRecv => "syn_recv",
        TcpState::FinWait => "fin_wait",
        TcpState::TimeWait => "time_wait",
        TcpState::Close => "close",
        TcpState::CloseWait => "close_wait",
        TcpState::LastAck => "last_ack",
        TcpState::Listen => "listen",
        TcpState::SynAck => "synack",
    }
    .to_owned()
}

#[test]
fn each_timeout_has_the_documented_value_in_each_profile_and_each_key_sets_its_own() {
    for key in TIMEOUTS.keys.iter().filter(|key| key.name != "profile") {
        let documented: Vec<_> = key.default.split(" / ").collect();
        let profiles = [(Profile::Lvs, "lvs"), (Profile::Kernel, "kernel"), (Profile::Rfc, "rfc")];
        assert_eq!(documented.len(), profiles.len(), "{}", key.name);
        for ((profile, name), seconds) in profiles.iter().zip(documented) {
            let config =
                parsed(&format!("[timeouts]\nprofile = \"{name}\"\n[[port]]\nname = \"a\"\n"));
            assert_eq!(config.timeouts.profile, Some(*profile));
            let got = value(&config.timeouts.over(Timeouts::LVS), key.name);
            assert_eq!(format!("{}s", got.as_secs()), seconds, "{} in {name}", key.name);
        }
        let config =
            parsed(&format!("[timeouts]\n{} = \"77s\"\n[[port]]\nname = \"a\"\n", key.name));
        let set = config.timeouts.over(Timeouts::LVS);
        for other in TIMEOUTS.keys.iter().filter(|other| other.name != "profile") {
            let same = value(&set, other.name) == Duration::from_secs(77);
            assert_eq!(same, other.name == key.name, "{} sets {}", key.name, other.name);
        }
    }
}

#[test]
fn timeouts_of_a_service_come_from_itself_then_its_profile_then_the_director() {
    let service = |own: &str| {
        let text = format!(
            "[timeouts]\ntcp_established = \"5m\"\nudp = \"10s\"\n[[port]]\nname = \"a\"\n\
             [[service]]\naddress = \"10.0.0.80:80\"\nforwarding = \"nat\"\n\
             [service.timeouts]\n{own}\n"
        );
        let config = parsed(&text);
        let timeouts = config.timeouts_of(&config.services[0]);
        (timeouts.tcp(TcpState::Established).as_secs(), timeouts.udp().as_secs())
    };
    assert_eq!(service(""), (300, 10));
    assert_eq!(service("udp = \"20s\""), (300, 20));
    assert_eq!(service("profile = \"kernel\""), (900, 300));
    assert_eq!(service("profile = \"kernel\"\ntcp_established = \"1m\""), (60, 300));
}

#[test]
fn more_sets_of_timeouts_than_the_store_has_are_refused_at_the_first_that_is_too_many() {
    let file = |sets: usize| {
        let mut text = "[[port]]\nname = \"a\"\n".to_owned();
        for n in 1..=sets {
            text += &format!(
                "[[service]]\naddress = \"10.0.0.80:{n}\"\nforwarding = \"nat\"\ntimeouts = {{ udp = \"{n}s\" }}\n"
            );
        }
        text
    };
    let most = lvs_core::session::MAX_CLASSES;
    snapshot(&parsed(&file(most).replace("forwarding", "scheduler = \"rr\"\nforwarding")));
    let report = config::parse("test", &file(most + 1)).expect_err("one too many");
    let errors: Vec<_> =
        report.diagnostics().iter().filter(|d| d.message.contains("different sets")).collect();
    assert_eq!(errors.len(), 1);
    assert!(report.render(false).contains(&format!("10.0.0.80:{}\"", most + 1)));
}

#[test]
fn more_ports_than_a_director_has_are_refused_at_the_first_that_is_too_many() {
    let file = |ports: u16| {
        (0..ports).fold(String::new(), |text, n| text + &format!("[[port]]\nname = \"p{n}\"\n"))
    };
    parsed(&file(lvs_director::MAX_PORTS));
    let report = config::parse("test", &file(lvs_director::MAX_PORTS + 1)).expect_err("too many");
    assert!(report.render(false).contains("\"p64\""), "{}", report.render(false));
    assert_eq!(report.counts(), (1, 0));
}

#[test]
fn secrets_repeat_with_their_seed_and_differ_from_each_other() {
    let draw = |seed| {
        let mut secrets = Secrets::new(seed);
        [secrets.draw(), secrets.draw(), secrets.draw()]
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    let [a, b, c] = draw(0);
    assert!(a != b && b != c && a != c);
}

const PERSISTENT: &str = "[[port]]\nname = \"a\"\naddresses = [\"10.0.0.1/24\"]\n\
    [[service]]\naddress = \"10.0.0.80:80\"\nforwarding = \"nat\"\n";

fn persistence(text: &str) -> Option<Persistence> {
    let snapshot = snapshot(&parsed(&format!("{PERSISTENT}{text}")));
    snapshot.services().next().expect("configured").persistence
}

#[test]
fn clients_stay_for_600_seconds_with_the_profile_lvs_and_by_wish_with_others() {
    assert_eq!(persistence(""), Some(Persistence::default()));
    assert_eq!(Persistence::default().timeout, Duration::from_secs(600));
    assert_eq!(persistence("persistence = { enabled = false }\n"), None);
    let kernel =
        |more: &str| persistence(&format!("timeouts = {{ profile = \"kernel\" }}\n{more}"));
    assert_eq!(kernel(""), None);
    let wished = kernel("persistence = { timeout = \"5m\" }\n").expect("wished");
    assert_eq!((wished.timeout, wished.since), (Duration::from_secs(300), Since::LastConnection));
    let all = "persistence = { timeout = \"1s\", prefix_v4 = 24, prefix_v6 = 56, group = \"g\", \
               expire_quiescent = true, hard_threshold = true, since = \"last-packet\" }\n";
    let all = kernel(all).expect("wished");
    assert_eq!((all.prefix_v4, all.prefix_v6, all.since), (24, 56, Since::LastPacket));
    assert!(all.expire_quiescent && all.hard_threshold && all.group.is_some());
}

#[test]
fn a_server_is_what_its_section_says() {
    let server = |text: &str| {
        let text = format!("{PERSISTENT}[[service.server]]\naddress = \"10.0.0.11:80\"\n{text}");
        let snapshot = snapshot(&parsed(&text));
        *snapshot.servers().next().expect("configured")
    };
    assert_eq!((server("").state, server("").thresholds), Default::default());
    let limits = Thresholds { upper: 10, lower: 8 };
    assert_eq!(server("upper_threshold = 10\nlower_threshold = 8\n").thresholds, limits);
    let within = Some(Duration::from_secs(90));
    let cases = [
        ("state = \"draining\"\n", ServerState::Draining { within: None }),
        ("state = \"draining\"\ndrain_for = \"90s\"\n", ServerState::Draining { within }),
        ("state = \"down-kill\"\n", ServerState::DownKill),
        ("state = \"down-keep\"\n", ServerState::DownKeep),
    ];
    for (text, state) in cases {
        assert_eq!(server(text).state, state);
    }
}

#[test]
fn what_workers_share_is_sized_by_the_file_and_has_a_secret_of_its_own() {
    let config = parsed(&format!("[director]\ntemplates = 7\n{PERSISTENT}"));
    let [one, two] = [1, 2].map(|seed| config.shared_config(seed));
    assert_eq!((one.templates, one.servers), (7, 65_536));
    assert_ne!(one.key, two.key);
}
