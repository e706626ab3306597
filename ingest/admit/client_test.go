package admit

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

func headers(list ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(list); i += 2 {
			if strings.EqualFold(list[i], name) {
				return list[i+1]
			}
		}
		return ""
	}
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestAddress(t *testing.T) {
	for _, c := range []struct{ name, peer, forwarded, want string }{
		{"nobody is trusted to forward", "203.0.113.7", "198.51.100.1", "203.0.113.7"},
		{"a trusted proxy forwards", "10.0.0.1", "198.51.100.1", "198.51.100.1"},
		{"what the client put there itself stands left of that", "10.0.0.1", "1.2.3.4, 198.51.100.1", "198.51.100.1"},
		{"two proxies", "10.0.0.1", "1.2.3.4,198.51.100.1, 10.9.9.9", "198.51.100.1"},
		{"a proxy's own request", "10.0.0.1", "", "10.0.0.1"},
		{"proxies all the way", "10.0.0.1", "10.0.0.2, 10.0.0.3", "10.0.0.2"},
		{"with a port", "10.0.0.1", "198.51.100.1:4711", "198.51.100.1"},
		{"version 6 with a port", "10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"},
		{"version 6 in brackets", "10.0.0.1", "[2001:db8::1]", "2001:db8::1"},
		{"no address", "10.0.0.1", "1.2.3.4, unknown", "invalid IP"},
		{"empty elements", "10.0.0.1", "198.51.100.1, ,", "198.51.100.1"},
		{"version 4 in 6", "::ffff:10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"},
		{"with a zone", "fe80::1%eth0", "", "fe80::1"},
		{"a proxy of version 6", "fd00::5", "198.51.100.1", "198.51.100.1"},
	} {
		p := Perimeter{Trusted: prefixes("10.0.0.0/8", "fd00::/8")}
		if got := p.Address(netip.MustParseAddr(c.peer), headers("X-Forwarded-For", c.forwarded)); got.String() != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	var p Perimeter
	if got := p.Address(netip.Addr{}, headers()); got.IsValid() {
		t.Errorf("a peer that is no address became %s", got)
	}
}

// FuzzForwarded wants of whatever stands in X-Forwarded-For: the address is
// that of the peer or of an element, nothing right of it is untrusted, and what
// a client puts before it changes nothing.
func FuzzForwarded(f *testing.F) {
	f.Add("1.2.3.4, 198.51.100.1, 10.9.9.9")
	f.Add("[2001:db8::1]:80,unknown,,10.0.0.2")
	f.Add(" ::ffff:10.0.0.1%eth0 , x")
	p := Perimeter{Trusted: prefixes("10.0.0.0/8")}
	peer := netip.MustParseAddr("10.0.0.1")
	f.Fuzz(func(t *testing.T, value string) {
		got := p.Address(peer, headers("X-Forwarded-For", value))
		if got.Zone() != "" || got.Is4In6() {
			t.Errorf("%q: %s", value, got)
		}
		if got == peer || p.trusts(got) {
			return
		}
		if forged := p.Address(peer, headers("X-Forwarded-For", "6.6.6.6, "+value)); forged != got {
			t.Errorf("%q: %s, and %s behind what a client forged", value, got, forged)
		}
		list := strings.Split(value, ",")
		for i := len(list) - 1; i >= 0; i-- {
			hop := strings.TrimSpace(list[i])
			if hop == "" {
				continue
			}
			a := parseHop(hop)
			if a == got {
				return
			}
			if !p.trusts(a) {
				t.Errorf("%q: %s is left of %q, which nobody trusts", value, got, hop)
			}
		}
		t.Errorf("%q: %s is no element", value, got)
	})
}

// listed are countries by address.
type listed map[string]string

func (l listed) Country(a netip.Addr) string { return l[a.String()] }

func TestCountryIsTheEdgesWord(t *testing.T) {
	g := grants(t, map[string]tenant.Quota{"shop": {}})["shop"]
	p := Perimeter{Trusted: prefixes("10.0.0.0/8"), CountryHeader: "CF-IPCountry", Countries: listed{"198.51.100.1": "FR", "203.0.113.7": "se"}}
	for _, c := range []struct{ name, peer, forwarded, header, want string }{
		{"the proxy says it", "10.0.0.1", "198.51.100.1", "DE", "DE"},
		{"in small letters", "10.0.0.1", "198.51.100.1", "de", "DE"},
		{"the client says it", "198.51.100.1", "", "DE", "FR"},
		{"a client that poses as a proxy", "203.0.113.7", "10.0.0.1", "DE", "SE"},
		{"the proxy does not know: the database is asked", "10.0.0.1", "198.51.100.1", "XX", "FR"},
		{"the proxy says what is no country", "10.0.0.1", "198.51.100.2", "T1", ""},
		{"nobody knows", "10.0.0.1", "198.51.100.2", "", ""},
		{"the proxy says too much", "10.0.0.1", "198.51.100.2", "DE,FR", ""},
	} {
		got := p.Client(g, netip.MustParseAddr(c.peer), headers("X-Forwarded-For", c.forwarded, "CF-IPCountry", c.header), 0)
		if got.Country != c.want {
			t.Errorf("%s: %q, want %q", c.name, got.Country, c.want)
		}
	}
}

func TestPrefix(t *testing.T) {
	gs := grants(t, map[string]tenant.Quota{"shop": {}, "other": {}})
	secret := []byte("0123456789abcdef0123456789abcdef")
	day := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	of := func(p *Perimeter, id, address string, at time.Time) string {
		c := p.Client(gs[id], netip.MustParseAddr(address), headers(), at.UnixMilli())
		return c.Prefix
	}
	a, b := &Perimeter{Secret: secret}, &Perimeter{Secret: secret}
	base := of(a, "shop", "198.51.100.1", day)
	if len(base) != 11 || strings.Contains(base, "198") {
		t.Errorf("prefix %q", base)
	}
	for _, c := range []struct {
		name string
		got  string
		same bool
	}{
		{"the same /24", of(a, "shop", "198.51.100.254", day), true},
		{"the same, written in version 6", of(a, "shop", "::ffff:198.51.100.9", day), true},
		{"another edge with the secret", of(b, "shop", "198.51.100.7", day.Add(24*time.Hour-time.Millisecond)), true},
		{"another /24", of(a, "shop", "198.51.101.1", day), false},
		{"another tenant", of(a, "other", "198.51.100.1", day), false},
		{"the next day", of(a, "shop", "198.51.100.1", day.Add(24*time.Hour)), false},
		{"and back", of(a, "shop", "198.51.100.1", day), true},
		{"another secret", of(&Perimeter{Secret: []byte("x")}, "shop", "198.51.100.1", day), false},
	} {
		if (c.got == base) != c.same {
			t.Errorf("%s: %q beside %q", c.name, c.got, base)
		}
	}
	if of(a, "shop", "2001:db8:1::1", day) != of(a, "shop", "2001:db8:1:ffff::2", day) || of(a, "shop", "2001:db8:1::1", day) == of(a, "shop", "2001:db8:2::1", day) {
		t.Error("a network of version 6 is not its /48")
	}
	// A long connection gets the prefix of each day.
	c := a.Client(gs["shop"], netip.MustParseAddr("198.51.100.1"), headers(), day.UnixMilli())
	a.Refresh(&c, gs["shop"], day.Add(25*time.Hour).UnixMilli())
	if c.Prefix == base || c.Prefix != of(b, "shop", "198.51.100.1", day.Add(25*time.Hour)) {
		t.Errorf("refreshed prefix %q", c.Prefix)
	}
	if c := a.Client(gs["shop"], netip.Addr{}, headers(), day.UnixMilli()); c.Prefix != "" {
		t.Errorf("no address has the prefix %q", c.Prefix)
	}
	if x, y := a.Pseudonym(netip.MustParseAddr("198.51.100.1"), headers(), 0), a.Pseudonym(netip.MustParseAddr("198.51.100.2"), headers(), 0); x == y || len(x) != 11 {
		t.Errorf("pseudonyms %q and %q", x, y)
	}
}

func TestSignals(t *testing.T) {
	gpc, dnt, both := []string{"Sec-GPC", "1"}, []string{"DNT", "1"}, []string{"Sec-GPC", "1", "DNT", "1"}
	for _, c := range []struct {
		name    string
		spec    tenant.PrivacySpec
		header  []string
		strip   bool
		refused string
	}{
		{"no signal", tenant.PrivacySpec{}, nil, false, ""},
		{"GPC by default", tenant.PrivacySpec{}, gpc, true, ""},
		{"DNT by default", tenant.PrivacySpec{}, dnt, false, ""},
		{"a signal of another value", tenant.PrivacySpec{GPC: "refuse", DNT: "refuse"}, []string{"Sec-GPC", "0", "DNT", "unspecified"}, false, ""},
		{"GPC ignored", tenant.PrivacySpec{GPC: "ignore"}, gpc, false, ""},
		{"GPC refused", tenant.PrivacySpec{GPC: "refuse"}, gpc, false, "Sec-GPC"},
		{"DNT stripped", tenant.PrivacySpec{DNT: "strip"}, dnt, true, ""},
		{"DNT refused, GPC stripped", tenant.PrivacySpec{DNT: "refuse"}, both, false, "DNT"},
		{"GPC refused, DNT stripped", tenant.PrivacySpec{GPC: "refuse", DNT: "strip"}, both, false, "Sec-GPC"},
	} {
		d, err := tenant.NewDirectory([]tenant.Spec{{ID: "shop", Privacy: c.spec, Keys: []tenant.Key{{Key: "pk_1"}}}})
		if err != nil {
			t.Fatal(err)
		}
		g, err := d.Key("pk_1")
		if err != nil {
			t.Fatal(err)
		}
		p := Perimeter{Secret: []byte("s"), Countries: listed{"198.51.100.1": "FR"}}
		client := p.Client(g, netip.MustParseAddr("198.51.100.1"), headers(c.header...), 1000)
		b := event.Beacon{App: "a", Session: "session-0", User: "h:1", Sent: 1000, Ctx: event.Context{Country: "DE", Prefix: "forged"}, Events: []event.One{{Kind: event.View, Name: "/", Time: 1000}}}
		whole, _ := Beacon(g, &client, nil, &b, 1000)
		if (whole != nil) != (c.refused != "") || whole != nil && (whole.Field != c.refused || whole.Reason != event.ReasonPrivacy || whole.Index != -1) {
			t.Errorf("%s: %+v", c.name, whole)
			continue
		}
		if whole != nil {
			continue
		}
		if (b.User == "") != c.strip || (b.Ctx.Prefix == "") != c.strip || b.Ctx.Prefix == "forged" || b.Ctx.Country != "FR" || b.Session != "session-0" || len(b.Events) != 1 {
			t.Errorf("%s: %+v", c.name, b)
		}
	}
}

func TestOwnPatterns(t *testing.T) {
	d, err := tenant.NewDirectory([]tenant.Spec{{ID: "shop", Keys: []tenant.Key{{Key: "pk_1"}},
		Scrub: tenant.ScrubSpec{Rules: []string{"email"}, Patterns: []tenant.Pattern{{Name: "order", Pattern: `\bORD-\d{4,}\b`}, {Name: "mark", Pattern: `\[email\] of \$1`}}}}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := d.Key("pk_1")
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"order ORD-12345 of ann@mail.example": "order [order] of [email]",
		"from 192.168.1.20":                   "from 192.168.1.20", // a rule that was not named
		"ann@mail.example of $1":              "[mark]",            // after the built-in ones
		"":                                    "",
	} {
		if got := scrub(g.Scrub, in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	b := event.Beacon{Ctx: event.Context{Page: "/o/ORD-12345"}}
	if n := Scrub(g.Scrub, nil, &b); n != 1 || b.Ctx.Page != "/o/[order]" {
		t.Errorf("%d changed, page %q", n, b.Ctx.Page)
	}
	if n := Scrub(&tenant.Scrub{}, nil, &b); n != 0 {
		t.Errorf("scrubbing is off and changed %d", n)
	}
}

func BenchmarkClient(b *testing.B) {
	d, err := tenant.NewDirectory([]tenant.Spec{{ID: "shop", Keys: []tenant.Key{{Key: "pk_1"}}}})
	if err != nil {
		b.Fatal(err)
	}
	g, err := d.Key("pk_1")
	if err != nil {
		b.Fatal(err)
	}
	p := Perimeter{Secret: []byte("s"), Trusted: prefixes("10.0.0.0/8"), CountryHeader: "CF-IPCountry"}
	get, peer := headers("X-Forwarded-For", "198.51.100.1", "CF-IPCountry", "DE"), netip.MustParseAddr("10.0.0.1")
	b.ReportAllocs()
	for b.Loop() {
		p.Client(g, peer, get, 1_795_000_000_000)
	}
}
