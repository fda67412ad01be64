// SPDX-License-Identifier: Apache-2.0
#include "launch/net_devices.h"

#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <vector>

#include "base/text.h"
#include "base/unique_fd.h"
#include "sys/file.h"
#include "sys/interrupt.h"

namespace skink::launch {
namespace {

// One rtnetlink message that is being written (man 7 rtnetlink). Attributes are aligned to 4 bytes.
class Request {
 public:
  template <typename Body>
  Request(std::uint16_t type, std::uint16_t flags, const Body& body) {
    header_.nlmsg_type = type;
    header_.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
    bytes_.assign(reinterpret_cast<const char*>(&header_), sizeof header_);
    bytes_.append(reinterpret_cast<const char*>(&body), sizeof body);
  }
  void add(std::uint16_t type, std::string_view value) {
    align();
    const rtattr head{static_cast<std::uint16_t>(RTA_LENGTH(value.size())), type};
    bytes_.append(reinterpret_cast<const char*>(&head), sizeof head).append(value);
  }
  void add_text(std::uint16_t type, const std::string& value) { add(type, {value.c_str(), value.size() + 1}); }
  template <typename T>
  void add_value(std::uint16_t type, T value) {
    add(type, {reinterpret_cast<const char*>(&value), sizeof value});
  }
  std::string finish(std::uint32_t sequence) {
    align();
    header_.nlmsg_len = static_cast<std::uint32_t>(bytes_.size());
    header_.nlmsg_seq = sequence;
    std::memcpy(bytes_.data(), &header_, sizeof header_);
    return bytes_;
  }

 private:
  void align() { bytes_.resize(NLMSG_ALIGN(bytes_.size())); }
  nlmsghdr header_{};
  std::string bytes_;
};

struct Attribute {
  std::uint16_t type;
  std::string_view value;
};

// The attributes behind the fixed part of a message.
std::vector<Attribute> attributes_of(std::string_view bytes) {
  std::vector<Attribute> out;
  while (bytes.size() >= sizeof(rtattr)) {
    rtattr head{};
    std::memcpy(&head, bytes.data(), sizeof head);
    if (head.rta_len < sizeof head || head.rta_len > bytes.size()) break;
    out.push_back({head.rta_type, bytes.substr(sizeof head, head.rta_len - sizeof head)});
    const std::size_t step = RTA_ALIGN(head.rta_len);
    bytes.remove_prefix(step < bytes.size() ? step : bytes.size());
  }
  return out;
}

class Netlink {
 public:
  static Result<Netlink> open() {
    UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    if (!fd) return Error::from_errno(errno, "netlink socket");
    return Netlink(std::move(fd));
  }
  // The payloads of the answers; for a request without NLM_F_DUMP there are none.
  Result<std::vector<std::string>> ask(Request request) {
    const std::string bytes = request.finish(++sequence_);
    if (::send(fd_.get(), bytes.data(), bytes.size(), 0) < 0) return Error::from_errno(errno, "send");
    std::vector<std::string> answers;
    for (;;) {
      std::vector<char> buffer(1U << 16);
      const ssize_t got = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
      if (got < 0 && sys::must_retry()) continue;
      if (got < 0) return Error::from_errno(errno, "receive");
      if (TRY(take(std::string_view(buffer.data(), static_cast<std::size_t>(got)), answers))) return answers;
    }
  }

 private:
  explicit Netlink(UniqueFd fd) : fd_(std::move(fd)) {}
  // True at the end of the answer.
  Result<bool> take(std::string_view bytes, std::vector<std::string>& answers) const {
    while (bytes.size() >= sizeof(nlmsghdr)) {
      nlmsghdr header{};
      std::memcpy(&header, bytes.data(), sizeof header);
      if (header.nlmsg_len < sizeof header || header.nlmsg_len > bytes.size()) break;
      const std::string_view body = bytes.substr(sizeof header, header.nlmsg_len - sizeof header);
      if (header.nlmsg_seq == sequence_) {
        if (header.nlmsg_type == NLMSG_DONE) return true;
        if (header.nlmsg_type == NLMSG_ERROR) {
          int err = 0;
          if (body.size() >= sizeof err) std::memcpy(&err, body.data(), sizeof err);
          if (err != 0) return Error::from_errno(-err, "rtnetlink");
          return true;
        }
        answers.emplace_back(body);
      }
      const std::size_t step = NLMSG_ALIGN(header.nlmsg_len);
      bytes.remove_prefix(step < bytes.size() ? step : bytes.size());
    }
    return false;
  }

  UniqueFd fd_;
  std::uint32_t sequence_ = 0;
};

struct Link {
  int index = 0;
  std::string name;
};

Result<std::vector<Link>> links_of(Netlink& netlink) {
  std::vector<Link> links;
  for (const auto& answer : TRY(netlink.ask(Request(RTM_GETLINK, NLM_F_DUMP, ifinfomsg{})))) {
    ifinfomsg info{};
    if (answer.size() < sizeof info) continue;
    std::memcpy(&info, answer.data(), sizeof info);
    Link link{info.ifi_index, {}};
    for (const auto& attribute : attributes_of(std::string_view(answer).substr(sizeof info)))
      if (attribute.type == IFLA_IFNAME) link.name = attribute.value.substr(0, attribute.value.find('\0'));
    links.push_back(std::move(link));
  }
  return links;
}

struct Address {
  ifaddrmsg head{};
  std::uint32_t flags = 0;
  std::vector<std::pair<std::uint16_t, std::string>> attributes;
};

// The permanent addresses of global scope: the others were not made to outlive the interface's place.
Result<std::vector<Address>> addresses_of(Netlink& netlink, int index) {
  std::vector<Address> addresses;
  for (const auto& answer : TRY(netlink.ask(Request(RTM_GETADDR, NLM_F_DUMP, ifaddrmsg{})))) {
    Address address;
    if (answer.size() < sizeof address.head) continue;
    std::memcpy(&address.head, answer.data(), sizeof address.head);
    if (static_cast<int>(address.head.ifa_index) != index) continue;
    address.flags = address.head.ifa_flags;
    for (const auto& attribute : attributes_of(std::string_view(answer).substr(sizeof address.head))) {
      if (attribute.type == IFA_FLAGS && attribute.value.size() >= sizeof address.flags)
        std::memcpy(&address.flags, attribute.value.data(), sizeof address.flags);
      else if (attribute.type != IFA_CACHEINFO) address.attributes.emplace_back(attribute.type, attribute.value);
    }
    if (address.head.ifa_scope == RT_SCOPE_UNIVERSE && (address.flags & IFA_F_PERMANENT) != 0)
      addresses.push_back(std::move(address));
  }
  return addresses;
}

Result<void> move_link(Netlink& netlink, int index, const std::string& name, int network_fd) {
  ifinfomsg info{};
  info.ifi_index = index;
  Request request(RTM_NEWLINK, NLM_F_ACK, info);
  request.add_value(IFLA_NET_NS_FD, network_fd);
  request.add_text(IFLA_IFNAME, name);
  TRY(netlink.ask(std::move(request)));
  return {};
}

Result<void> set_up(Netlink& netlink, int index) {
  ifinfomsg info{};
  info.ifi_index = index;
  info.ifi_flags = IFF_UP;
  info.ifi_change = IFF_UP;
  TRY(netlink.ask(Request(RTM_NEWLINK, NLM_F_ACK, info)));
  return {};
}

Result<void> add_address(Netlink& netlink, int index, Address address, bool renamed) {
  address.head.ifa_index = static_cast<unsigned>(index);
  address.head.ifa_flags = 0;
  Request request(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, address.head);
  // A label begins with the interface's name, so it cannot be kept under another one.
  for (const auto& [type, value] : address.attributes)
    if (type != IFA_LABEL || !renamed) request.add(type, value);
  constexpr std::uint32_t kOfTheMoment = IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_OPTIMISTIC;
  request.add_value(IFA_FLAGS, address.flags & ~kOfTheMoment);
  TRY(netlink.ask(std::move(request)));
  return {};
}

// A socket belongs for good to the namespace in which it was made.
Result<Netlink> open_in(int network_fd) {
  const UniqueFd own = TRY(sys::open_at(AT_FDCWD, "/proc/self/ns/net", O_RDONLY));
  if (::setns(network_fd, CLONE_NEWNET) != 0)
    return Error::from_errno(errno, "enter the container's network namespace");
  auto netlink = Netlink::open();
  if (::setns(own.get(), CLONE_NEWNET) != 0) return Error::from_errno(errno, "return to the host's network namespace");
  return netlink;
}

Result<void> move_one(Netlink& here, Netlink& there, const std::string& host_name, const std::string& given,
                      int network_fd) {
  const std::string name = given.empty() ? host_name : given;
  const int index = static_cast<int>(::if_nametoindex(host_name.c_str()));
  if (index == 0) return Error::from_errno(errno, "no such interface on the host");
  std::set<int> before;
  for (const auto& link : TRY(links_of(there))) {
    before.insert(link.index);
    if (link.name == name)
      return Error::make(Code::exists, "the container has an interface ", quoted(name), " already");
  }
  const auto addresses = TRY(addresses_of(here, index));
  TRY_CTX(move_link(here, index, name, network_fd), "move it");
  for (const auto& link : TRY(links_of(there))) {
    if (before.contains(link.index)) continue;
    TRY_CTX(set_up(there, link.index), "set it up");
    for (const auto& address : addresses)
      TRY_CTX(add_address(there, link.index, address, link.name != host_name), "give it its addresses");
  }
  return {};
}

}  // namespace

Result<void> check_net_devices(const NetDevices& devices) {
  for (const auto& [host_name, name] : devices)
    if (::if_nametoindex(host_name.c_str()) == 0)
      return Error::make(Code::not_found, "linux.netDevices.", printable(host_name), ": no such interface on the host");
  return {};
}

Result<void> move_net_devices(const NetDevices& devices, int network_fd) {
  Netlink here = TRY_CTX(Netlink::open(), "linux.netDevices");
  Netlink there = TRY_CTX(open_in(network_fd), "linux.netDevices");
  for (const auto& [host_name, name] : devices)
    TRY_CTX(move_one(here, there, host_name, name, network_fd), "linux.netDevices.", printable(host_name));
  return {};
}

}  // namespace skink::launch
