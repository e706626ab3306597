package webhook

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// ErrInternal says that a target's name led to an address that is not on the
// open internet and that the operator did not allow.
var ErrInternal = errors.New("internal address")

// internal lists what is not the open internet and what the predicates of
// [netip.Addr] do not cover: the IANA special-purpose address registries.
var internal = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),   // shared address space of carriers
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation
	netip.MustParsePrefix("192.88.99.0/24"),  // relays of 6to4, which were
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks
	netip.MustParsePrefix("198.51.100.0/24"), // documentation
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, and broadcast
	netip.MustParsePrefix("::/96"),           // IPv4-compatible, which was
	netip.MustParsePrefix("::ffff:0:0:0/96"), // IPv4-translated (SIIT): leads to any IPv4 address
	netip.MustParsePrefix("100::/64"),        // discarded
	netip.MustParsePrefix("3fff::/20"),       // documentation
	netip.MustParsePrefix("5f00::/16"),       // segments of a route (SRv6)
	netip.MustParsePrefix("64:ff9b::/96"),    // NAT64: leads to any IPv4 address
	netip.MustParsePrefix("64:ff9b:1::/48"),  // likewise
	netip.MustParsePrefix("2002::/16"),       // 6to4: likewise
	netip.MustParsePrefix("2001::/23"),       // protocol assignments, Teredo among them
	netip.MustParsePrefix("2001:db8::/32"),   // documentation
	netip.MustParsePrefix("fec0::/10"),       // site-local, which was
}

// allowed reports whether a webhook may be sent to an address. It is asked for
// the address that is dialled, after the name was resolved, so a name that
// resolves to something else the second time gains nothing.
func allowed(a netip.Addr, allow []netip.Prefix) bool {
	a = a.Unmap().WithZone("")
	in := func(p netip.Prefix) bool { return p.Contains(a) }
	if slices.ContainsFunc(allow, in) {
		return true
	}
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(internal, in)
}

// CheckHost reports a host that is an address, or this machine by its name, and may not be
// dialled: it would be refused at each try. What other names lead to is known when
// they are.
func CheckHost(host string, allow []netip.Prefix) error {
	a, err := netip.ParseAddr(host)
	if name := strings.TrimSuffix(strings.ToLower(host), "."); name == "localhost" || strings.HasSuffix(name, ".localhost") {
		a, err = netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	}
	if err == nil && !allowed(a, allow) {
		return refusal(a)
	}
	return nil
}

// CheckURL does what [CheckHost] does with the host of a URL. One that is none is left
// to [Target.Check].
func CheckURL(text string, allow []netip.Prefix) error {
	u, err := url.Parse(text)
	if err != nil {
		return nil
	}
	return CheckHost(u.Hostname(), allow)
}

func refusal(a netip.Addr) error {
	return fmt.Errorf("%s: %w: want one on the open internet, or one in webhook_allow", a, ErrInternal)
}

// NewDialer returns a dialer that reaches only what is allowed.
func NewDialer(allow []netip.Prefix) *net.Dialer {
	return &net.Dialer{Timeout: 5 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("address %q: %w", address, err)
		}
		if !allowed(ap.Addr(), allow) {
			return refusal(ap.Addr())
		}
		return nil
	}}
}

// NewClient returns a client that follows no redirects, uses no proxy and
// reaches only what is allowed.
func NewClient(allow []netip.Prefix) *http.Client {
	return &http.Client{
		Timeout:       attemptTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DialContext: NewDialer(allow).DialContext, TLSHandshakeTimeout: 5 * time.Second, MaxIdleConnsPerHost: 2,
			IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 16 << 10, ForceAttemptHTTP2: true},
	}
}
