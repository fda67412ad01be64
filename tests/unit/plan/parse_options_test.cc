// SPDX-License-Identifier: Apache-2.0
#include "plan/parse_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <limits>

namespace skink::plan {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

template <typename T>
std::string refusal(const Result<T>& result) {
  return result ? "accepted" : result.error().text();
}

// ---- -v ----

TEST(ParseVolume, TakesSourceDestinationAndOptions) {
  const auto volume = parse_volume("/srv/data:/data/./x//y:ro,rslave,noexec");

  ASSERT_TRUE(volume) << volume.error().text();
  EXPECT_EQ(volume->kind, VolumeOption::Kind::bind);
  EXPECT_EQ(volume->source, "/srv/data");
  EXPECT_EQ(volume->destination, "/data/x/y");
  EXPECT_THAT(volume->options, ElementsAre("ro", "rro", "rslave", "noexec"));
}

TEST(ParseVolume, TakesDockersWordsThatMeanNothingHere) {
  EXPECT_THAT(parse_volume("/a:/b:z,cached,nocopy")->options, ElementsAre());
}

TEST(ParseVolume, RefusesNamedVolumesAndNamesTheWay) {
  constexpr const char* kWay = "named volumes are not there yet: give an absolute host path";
  EXPECT_EQ(refusal(parse_volume("data:/data")), std::string("\"data:/data\": ") + kWay);
  EXPECT_EQ(refusal(parse_volume("./data:/data")), std::string("\"./data:/data\": ") + kWay);
  EXPECT_EQ(refusal(parse_volume("/data")),
            "\"/data\": anonymous volumes are not there yet: give SRC:DST, or --tmpfs DST");
}

TEST(ParseVolume, RefusesWhatIsNotOfItsForm) {
  EXPECT_EQ(refusal(parse_volume("/a:/")), "\"/a:/\": the destination is /; give a directory in the container");
  EXPECT_EQ(refusal(parse_volume("/a:/x/../..")),
            "\"/a:/x/../..\": the destination is /; give a directory in the container");
  EXPECT_EQ(refusal(parse_volume("/a:b")), "\"/a:b\": destination \"b\": expected an absolute path");
  EXPECT_EQ(refusal(parse_volume(":/b")), "\":/b\": the source is empty; expected SRC:DST");
  EXPECT_EQ(refusal(parse_volume("/a:/b:ro:x")), "\"/a:/b:ro:x\": expected SRC:DST or SRC:DST:OPTION,...");
  EXPECT_EQ(refusal(parse_volume("/a:/b:rw,ro")), "\"/a:/b:rw,ro\": read-only and read-write at once");
  EXPECT_EQ(refusal(parse_volume("/a:/b:upperdir=/x")),
            "\"/a:/b:upperdir=/x\": unknown option \"upperdir=/x\"; expected ro, rw, noexec, nosuid, nodev, rprivate, "
            "rslave, "
            "rshared or bind");
  EXPECT_FALSE(parse_volume(""));
  EXPECT_FALSE(parse_volume(":"));
  EXPECT_FALSE(parse_volume("/a:/b:"));
  EXPECT_FALSE(parse_volume(std::string("/a\0b:/b", 7)));
  EXPECT_FALSE(parse_volume("/a:/" + std::string(5000, 'x')));
}

// ---- --mount ----

TEST(ParseMount, TakesABind) {
  const auto volume = parse_mount("type=bind,\"source=/srv/a,b\",target=/data,readonly,bind-propagation=rslave");

  ASSERT_TRUE(volume) << volume.error().text();
  EXPECT_EQ(volume->source, "/srv/a,b");
  EXPECT_EQ(volume->destination, "/data");
  EXPECT_THAT(volume->options, ElementsAre("ro", "rro", "rslave"));
}

TEST(ParseMount, TakesATmpfs) {
  const auto volume = parse_mount("type=tmpfs,dst=/cache,tmpfs-size=10m,tmpfs-mode=0700");

  ASSERT_TRUE(volume) << volume.error().text();
  EXPECT_EQ(volume->kind, VolumeOption::Kind::tmpfs);
  EXPECT_THAT(volume->options, ElementsAre("size=10485760", "mode=0700"));
}

TEST(ParseMount, KnowsTheRecursionOfBinds) {
  EXPECT_THAT(parse_mount("type=bind,src=/a,dst=/b,bind-recursive=disabled")->options, ElementsAre("bind"));
  EXPECT_THAT(parse_mount("type=bind,src=/a,dst=/b,bind-nonrecursive")->options, ElementsAre("bind"));
  EXPECT_THAT(parse_mount("type=bind,src=/a,dst=/b,ro,bind-recursive=writable")->options, ElementsAre("ro"));
}

TEST(ParseMount, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(refusal(parse_mount("source=/a,target=/b")), HasSubstr("named volumes are not there yet"));
  EXPECT_THAT(refusal(parse_mount("type=volume,source=a,target=/b")), HasSubstr("named volumes are not there yet"));
  EXPECT_THAT(refusal(parse_mount("type=bind,source=a,target=/b")), HasSubstr("named volumes are not there yet"));
  EXPECT_EQ(refusal(parse_mount("type=npipe,source=/a,target=/b")),
            "\"type=npipe,source=/a,target=/b\": type: expected bind or tmpfs");
  EXPECT_THAT(refusal(parse_mount("type=bind,source=/a,target=/b,bind-propagation=x,rw")),
              HasSubstr("bind-propagation: expected rprivate"));
  EXPECT_THAT(refusal(parse_mount("type=bind,source=/a,target=/b,o=x")), HasSubstr("unknown field \"o\""));
  EXPECT_THAT(refusal(parse_mount("type=bind,source=/a,target=/b,tmpfs-size=1m")),
              HasSubstr("tmpfs-size is not a field of a bind mount"));
  EXPECT_THAT(refusal(parse_mount("type=tmpfs,source=/a,target=/b")), HasSubstr("a tmpfs mount has no source"));
  EXPECT_THAT(refusal(parse_mount("type=tmpfs,target=/b,tmpfs-mode=9")), HasSubstr("mode: expected octal digits"));
  EXPECT_THAT(refusal(parse_mount("type=tmpfs")), HasSubstr("expected an absolute path"));
  EXPECT_THAT(refusal(parse_mount("type=bind,\"source=/a")), HasSubstr("a quote is not closed"));
}

// ---- --tmpfs ----

TEST(ParseTmpfs, TakesOptionsAndTurnsSizesIntoBytes) {
  EXPECT_THAT(parse_tmpfs("/run/x")->options, ElementsAre());
  EXPECT_THAT(parse_tmpfs("/x:size=1g,mode=755,uid=5,exec,notmpcopyup")->options,
              ElementsAre("size=1073741824", "mode=755", "uid=5", "exec", "notmpcopyup"));
  EXPECT_THAT(parse_tmpfs("/x:size=50%")->options, ElementsAre("size=50%"));
}

TEST(ParseTmpfs, RefusesOtherWords) {
  EXPECT_THAT(refusal(parse_tmpfs("/x:huge=always")), HasSubstr("unknown option \"huge\""));
  EXPECT_THAT(refusal(parse_tmpfs("/x:sized")), HasSubstr("unknown option \"sized\""));
  EXPECT_THAT(refusal(parse_tmpfs("/x:size=ten")), HasSubstr("is not a size"));
  EXPECT_THAT(refusal(parse_tmpfs("/x:size=-1")), HasSubstr("size: expected"));
  EXPECT_THAT(refusal(parse_tmpfs("/x:size=200%")), HasSubstr("1% to 100%"));
  EXPECT_THAT(refusal(parse_tmpfs("/x:mode=99")), HasSubstr("octal"));
  EXPECT_THAT(refusal(parse_tmpfs("/x:uid=-1")), HasSubstr("uid: expected a number"));
  EXPECT_THAT(refusal(parse_tmpfs("x")), HasSubstr("expected an absolute path"));
  EXPECT_THAT(refusal(parse_tmpfs("/")), HasSubstr("the destination is /"));
}

// ---- limits and devices ----

TEST(ParseUlimit, TakesOneOrTwoValues) {
  const auto both = parse_ulimit("nofile=1024:2048");
  ASSERT_TRUE(both) << both.error().text();
  EXPECT_EQ(both->resource, RLIMIT_NOFILE);
  EXPECT_EQ(both->soft, 1024U);
  EXPECT_EQ(both->hard, 2048U);
  EXPECT_EQ(parse_ulimit("core=-1")->hard, static_cast<std::uint64_t>(RLIM_INFINITY));
  EXPECT_EQ(parse_ulimit("nproc=5")->soft, 5U);
}

TEST(ParseUlimit, RefusesOtherForms) {
  EXPECT_EQ(refusal(parse_ulimit("nofile")), "\"nofile\": expected NAME=SOFT[:HARD], as in nofile=1024:2048");
  EXPECT_EQ(refusal(parse_ulimit("files=1")),
            "\"files=1\": no such limit \"files\"; expected NAME=SOFT[:HARD], as in nofile=1024:2048");
  EXPECT_EQ(refusal(parse_ulimit("nofile=2:1")),
            "\"nofile=2:1\": expected a soft limit that is not above the hard one");
  for (const char* text : {"nofile=", "nofile=x", "nofile=1:", "nofile=1:2:3", "nofile=-2", "nofile=+1", "nofile= 1"})
    EXPECT_FALSE(parse_ulimit(text)) << text;
}

TEST(ParseCpus, ReadsDecimals) {
  EXPECT_DOUBLE_EQ(*parse_cpus("1.5"), 1.5);
  EXPECT_DOUBLE_EQ(*parse_cpus("2"), 2);
  EXPECT_DOUBLE_EQ(*parse_cpus(".25"), 0.25);
  for (const char* text : {"", ".", "-1", "1e3", "1.5x", "nan", "1,5", "1.2.3", "9999999"})
    EXPECT_FALSE(parse_cpus(text)) << text;
}

TEST(ParseCpuset, ReadsListsOfRanges) {
  EXPECT_EQ(*parse_cpuset("0-3,7"), "0-3,7");
  for (const char* text : {"", "3-1", "0-", "-1", "a", "1,,2", "1\n2", "70000"})
    EXPECT_FALSE(parse_cpuset(text)) << text;
}

TEST(ParseNumber, KeepsToItsRange) {
  EXPECT_EQ(*parse_number("-1", -1, 10), -1);
  EXPECT_EQ(refusal(parse_number("11", -1, 10)), "\"11\": expected a whole number from -1 to 10");
  EXPECT_EQ(refusal(parse_number("x", 0, std::numeric_limits<std::int64_t>::max())),
            "\"x\": expected a whole number of at least 0");
}

TEST(ParseStorageOpt, KnowsSizeOnly) {
  EXPECT_EQ(*parse_storage_opt("size=1g"), 1 << 30);
  for (const char* text : {"size", "size=0", "size=-1", "dm.x=1", ""}) EXPECT_FALSE(parse_storage_opt(text)) << text;
}

TEST(ParseDevice, TakesOneTwoOrThreeParts) {
  const auto one = parse_device("/dev/fuse");
  EXPECT_EQ(one->container_path, "/dev/fuse");
  EXPECT_EQ(one->access, "rwm");
  const auto two = parse_device("/dev/sda:/dev/disk");
  EXPECT_EQ(two->host_path, "/dev/sda");
  EXPECT_EQ(two->container_path, "/dev/disk");
  EXPECT_EQ(parse_device("/dev/sda:r")->access, "r");
  EXPECT_EQ(parse_device("/dev/sda:/dev/x:rm")->access, "rm");
  for (const char* text :
       {"", "fuse", "/dev/a:b:c:d", "/dev/a:/dev/b:x", "/dev/a:/dev/b:", "/dev/a:relative", "/dev/a:/"})
    EXPECT_FALSE(parse_device(text)) << text;
}

TEST(ParseDeviceRule, TakesNumbersAndStars) {
  const auto rule = parse_device_rule("c 10:* rwm");
  ASSERT_TRUE(rule);
  EXPECT_TRUE(rule->allow);
  EXPECT_EQ(rule->type, 'c');
  EXPECT_EQ(rule->major, 10);
  EXPECT_EQ(rule->minor, std::nullopt);
  for (const char* text : {"", "c 10:1", "d 1:1 r", "c 1 r", "c x:1 r", "c 1:1 rx", "c 1:1 r r"})
    EXPECT_FALSE(parse_device_rule(text)) << text;
}

// ---- security ----

TEST(ApplySecurityOpt, SetsWhatItNames) {
  RunOptions options;
  std::string file;

  ASSERT_TRUE(apply_security_opt("seccomp=/etc/profile.json", options, file));
  EXPECT_EQ(file, "/etc/profile.json");
  ASSERT_TRUE(apply_security_opt("seccomp=unconfined", options, file));
  EXPECT_TRUE(options.seccomp_unconfined);
  EXPECT_EQ(file, "");
  ASSERT_TRUE(apply_security_opt("no-new-privileges=false", options, file));
  EXPECT_FALSE(options.no_new_privileges);
  ASSERT_TRUE(apply_security_opt("no-new-privileges", options, file));
  EXPECT_TRUE(options.no_new_privileges);
  ASSERT_TRUE(apply_security_opt("apparmor=docker-default", options, file));
  EXPECT_EQ(options.apparmor_profile, "docker-default");
  ASSERT_TRUE(apply_security_opt("label=system_u:system_r:container_t:s0:c1,c2", options, file));
  EXPECT_EQ(options.selinux_label, "system_u:system_r:container_t:s0:c1,c2");
  ASSERT_TRUE(apply_security_opt("label=disable", options, file));
  EXPECT_EQ(options.selinux_label, "");
  ASSERT_TRUE(apply_security_opt("systempaths=unconfined", options, file));
  EXPECT_TRUE(options.unmask_all);
}

TEST(ApplySecurityOpt, RefusesTheRest) {
  for (const char* text : {"", "seccomp", "seccomp=", "seccomp=\0", "no-new-privileges=maybe", "label=type:x",
                           "apparmor=", "systempaths=masked", "credentialspec=file://x"}) {
    RunOptions options;
    std::string file;
    EXPECT_FALSE(apply_security_opt(text, options, file)) << text;
  }
}

TEST(ParseSysctl, TakesKeysAsTheKernelNamesThem) {
  EXPECT_THAT(*parse_sysctl("net.core.somaxconn=1024"), Pair("net.core.somaxconn", "1024"));
  EXPECT_THAT(*parse_sysctl("net.ipv4.conf.eno2/100.rp_filter=1"), Pair("net.ipv4.conf.eno2/100.rp_filter", "1"));
  EXPECT_THAT(*parse_sysctl("net.ipv4.ping_group_range=0\t1000"), Pair("net.ipv4.ping_group_range", "0\t1000"));
  EXPECT_THAT(*parse_sysctl("a="), Pair("a", ""));
}

TEST(ParseSysctl, RefusesKeysThatLeadElsewhereAndValuesOfTwoLines) {
  for (const char* text : {"", "a", "=1", "net/../kernel/core_pattern=x", "net..core=1", "a=1\nb=2", "a\n=1", "a b=1",
                           "kernel.shm_rmid_forced=1\n+kernel.core_pattern=|/x", "a+b=1"})
    EXPECT_FALSE(parse_sysctl(text)) << text;
  // One write of one value: what "+" meant to another runtime it does not mean here.
  EXPECT_THAT(*parse_sysctl("kernel.shm_rmid_forced=1+kernel.core_pattern=|/x"),
              Pair("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/x"));
}

TEST(ParseCapability, KnowsNamesInBothForms) {
  EXPECT_TRUE(parse_capability("NET_ADMIN"));
  EXPECT_TRUE(parse_capability("CAP_SYS_PTRACE"));
  EXPECT_TRUE(parse_capability("ALL"));
  EXPECT_EQ(refusal(parse_capability("NET_ADM")), "\"NET_ADM\": expected a capability such as NET_ADMIN, or ALL");
}

// ---- names and network ----

TEST(ParseAddHost, TakesIpv4AndIpv6) {
  EXPECT_EQ(*parse_add_host("db:10.0.0.7"), "db:10.0.0.7");
  EXPECT_EQ(*parse_add_host("db=10.0.0.7"), "db:10.0.0.7");
  EXPECT_EQ(*parse_add_host("db:fd00::7"), "db:fd00::7");
  EXPECT_EQ(*parse_add_host("db:[fd00::7]"), "db:fd00::7");
  for (const char* text :
       {"", "db", "db:", ":1.2.3.4", "db:1.2.3", "d b:1.2.3.4", "db\n:1.2.3.4", "db:1.2.3.4\nevil", "-x:1.1.1.1"})
    EXPECT_FALSE(parse_add_host(text)) << text;
}

TEST(ParseDns, TakesAddressesAndDomains) {
  EXPECT_TRUE(parse_dns("10.0.0.1"));
  EXPECT_TRUE(parse_dns("fd00::1"));
  EXPECT_EQ(refusal(parse_dns("dns.example")), "\"dns.example\": expected an IP address");
  EXPECT_TRUE(parse_dns_search("example.org"));
  EXPECT_TRUE(parse_dns_search("."));
  EXPECT_FALSE(parse_dns_search("a b"));
}

TEST(ParseNetwork, KnowsNoneAndHostAndSaysWhatIsMissing) {
  EXPECT_FALSE(*parse_network("none"));
  EXPECT_TRUE(*parse_network("host"));
  EXPECT_EQ(refusal(parse_network("bridge")), "\"bridge\": networks are not there yet: expected none or host");
  EXPECT_TRUE(*parse_namespace_mode("host"));
  EXPECT_FALSE(*parse_namespace_mode("private"));
  EXPECT_THAT(refusal(parse_namespace_mode("container:x")), HasSubstr("not there yet"));
  EXPECT_EQ(refusal(parse_namespace_mode("shared")), "\"shared\": expected host");
  EXPECT_EQ(publish_error("80:80").text(),
            "\"80:80\": publishing ports is not there yet: give --network host, and the program listens on the host");
}

// ---- environment and labels ----

TEST(ParseEnv, NeedsAName) {
  EXPECT_EQ(*parse_env("A=b=c"), "A=b=c");
  EXPECT_EQ(*parse_env("A"), "A");
  EXPECT_EQ(*parse_env("A="), "A=");
  EXPECT_EQ(refusal(parse_env("=x")), "\"=x\": expected NAME=VALUE or NAME");
  EXPECT_FALSE(parse_env(""));
  EXPECT_FALSE(parse_env(std::string_view("A=\0", 3)));
}

TEST(ParseEnvFile, TakesLinesAndSkipsComments) {
  const auto entries = parse_env_file("\xef\xbb\xbf# comment\nA=1 # not a comment\r\n\n  B=two words\nHOME\n", "x.env");

  ASSERT_TRUE(entries) << entries.error().text();
  EXPECT_THAT(*entries, ElementsAre("A=1 # not a comment", "B=two words", "HOME"));
}

TEST(ParseEnvFile, NamesFileAndLineOfAMistake) {
  EXPECT_EQ(refusal(parse_env_file("A=1\nB C=2\n", "x.env")),
            "x.env:2: \"B C=2\": expected NAME=VALUE with no space in the name");
  EXPECT_EQ(refusal(parse_env_file("\xff=1", "x\x1b.env")), "x\\x1b.env:1: is not UTF-8");
}

TEST(ParseLabel, SplitsAtTheFirstEqualsSign) {
  EXPECT_THAT(*parse_label("a=b=c"), Pair("a", "b=c"));
  EXPECT_THAT(*parse_label("a"), Pair("a", ""));
  EXPECT_FALSE(parse_label("=b"));
  EXPECT_THAT(*parse_label_file("a=1\n#x\nb\n", "l"), ElementsAre(Pair("a", "1"), Pair("b", "")));
}

}  // namespace
}  // namespace skink::plan
