package admit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// Countries says in which country an address is: two capital letters of ISO
// 3166-1, or nothing where that is not known.
type Countries interface {
	Country(netip.Addr) string
}

// Perimeter says what the edge itself can know of a client: its address behind
// the proxies that the operator trusts, and from that its country and a keyed
// hash of its network. The address goes no further. A Perimeter is safe for
// concurrent use once its fields are set; the zero one trusts no proxy.
type Perimeter struct {
	Trusted       []netip.Prefix // proxies whose headers are believed
	CountryHeader string         // in which a trusted proxy names the country; empty: none does
	Countries     Countries      // asked where no header says it; nil: nobody is
	Secret        []byte         // keys the hashes; edges that share it give one network one hash

	today atomic.Pointer[dayKey]
	near  [256]atomic.Pointer[keyedAddress] // the last hash of each place
}

// keyedAddress is a hash that was made: most requests come from networks that
// were heard of a moment ago.
type keyedAddress struct {
	of      string
	address netip.Addr
	day     int64
	hash    string
}

// The part of an address that is hashed: what one household or site has, and
// no less, since it is there to bound what one network can say.
const (
	networkBitsV4 = 24
	networkBitsV6 = 48
)

const dayMS = 24 * 3600_000

// dayKey hashes with the key of one UTC day.
type dayKey struct {
	day  int64
	macs sync.Pool // of *mac
}

// mac is a hash with the room that it works in.
type mac struct {
	hash.Hash
	text [64 + 16]byte // a tenant's name and an address
	sum  [sha256.Size]byte
}

// Client is what the edge knows of who sent a request. It holds no address.
type Client struct {
	Country string // two capital letters, or empty
	Prefix  string // 11 characters, another one each UTC day; empty where the network is not known
	GPC     bool   // Sec-GPC: 1
	DNT     bool   // DNT: 1

	network netip.Prefix
	day     int64
}

// header is how a request's header field is read: the values of all its lines,
// joined by commas, empty where there is none. Names are asked for as net/http
// spells them, so that it need not spell them anew for each request.
type header = func(name string) string

const (
	headerGPC = "Sec-Gpc"
	headerDNT = "Dnt"
)

// Address returns the address that counts as the client's: the peer's own or,
// where the peer is a trusted proxy, the last one in X-Forwarded-For that is
// not. What stands further left was written by somebody whom nobody trusts. It
// returns the zero Addr where a trusted proxy forwards for something that is no
// address.
func (p *Perimeter) Address(peer netip.Addr, get header) netip.Addr {
	peer = peer.Unmap().WithZone("")
	if len(p.Trusted) == 0 || !p.trusts(peer) {
		return peer
	}
	for rest := get("X-Forwarded-For"); rest != ""; {
		at := strings.LastIndexByte(rest, ',')
		hop := strings.TrimSpace(rest[at+1:])
		rest = rest[:max(at, 0)]
		if hop == "" {
			continue
		}
		if peer = parseHop(hop); !p.trusts(peer) {
			return peer
		}
	}
	return peer // proxies all the way: a request of their own
}

func (p *Perimeter) trusts(a netip.Addr) bool {
	for i := range p.Trusted {
		if p.Trusted[i].Contains(a) {
			return true
		}
	}
	return false
}

// parseHop reads an address as proxies write it, with a port or without.
func parseHop(s string) netip.Addr {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return a.Unmap().WithZone("")
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap().WithZone("")
}

// Client returns what is known of the client of a tenant's key. peer is the
// other end of the connection; now is Unix ms.
func (p *Perimeter) Client(g *tenant.Grant, peer netip.Addr, get header, now int64) Client {
	c := Client{GPC: get(headerGPC) == "1", DNT: get(headerDNT) == "1"}
	address := p.Address(peer, get)
	// Whoever reaches the server past the proxies could name any country.
	if p.CountryHeader != "" && p.trusts(peer.Unmap().WithZone("")) {
		c.Country = country(get(p.CountryHeader))
	}
	if c.Country == "" && p.Countries != nil && address.IsValid() {
		c.Country = country(p.Countries.Country(address))
	}
	bits := networkBitsV4
	if address.Is6() {
		bits = networkBitsV6
	}
	c.network, _ = address.Prefix(bits) // the zero Addr has the zero Prefix
	p.Refresh(&c, g, now)
	return c
}

// Refresh gives the client of a long connection the prefix of the day.
func (p *Perimeter) Refresh(c *Client, g *tenant.Grant, now int64) {
	if day := now / dayMS; c.network.IsValid() && (c.Prefix == "" || c.day != day) {
		// The tenant's name is in it so that no two tenants can join theirs.
		c.day, c.Prefix = day, p.keyed(g.Tenant.String(), c.network.Addr(), day)
	}
}

// Pseudonym returns a keyed hash of the client's whole address, another one
// each UTC day, for protocols that name no session; empty where the address is
// not known.
func (p *Perimeter) Pseudonym(peer netip.Addr, get header, now int64) string {
	address := p.Address(peer, get)
	if !address.IsValid() {
		return ""
	}
	return p.keyed("", address, now/dayMS) // no tenant is called that
}

// keyed returns 64 bits of HMAC-SHA-256 (RFC 2104) in base64 of URLs. Its key
// is derived from the secret and the day: without the secret nothing can be
// undone by trying all networks, and nothing joined from day to day.
func (p *Perimeter) keyed(of string, a netip.Addr, day int64) string {
	bytes := a.As16()
	place := &p.near[(uint(bytes[5])*31+uint(bytes[13])*7+uint(bytes[14])+uint(bytes[15])*17+uint(len(of)))%uint(len(p.near))]
	if n := place.Load(); n != nil && n.day == day && n.address == a && n.of == of {
		return n.hash
	}
	k := p.today.Load()
	if k == nil || k.day != day {
		derive := hmac.New(sha256.New, p.Secret)
		fmt.Fprintf(derive, "serin network 1 day %d", day)
		key := derive.Sum(nil)
		k = &dayKey{day: day}
		k.macs.New = func() any { return &mac{Hash: hmac.New(sha256.New, key)} }
		p.today.Store(k)
	}
	m := k.macs.Get().(*mac)
	defer k.macs.Put(m)
	m.Reset()
	text := append(append(append(m.text[:0], of...), 0), bytes[:]...)
	_, _ = m.Write(text) // a hash takes whatever it is given
	var out [11]byte
	base64.RawURLEncoding.Encode(out[:], m.Sum(m.sum[:0])[:8])
	hash := string(out[:])
	place.Store(&keyedAddress{of, a, day, hash})
	return hash
}

// country returns two capital letters, or nothing for whatever else a header
// or a database says; XX is how proxies say that they do not know.
func country(s string) string {
	if len(s) != 2 || s[0]|0x20 < 'a' || s[0]|0x20 > 'z' || s[1]|0x20 < 'a' || s[1]|0x20 > 'z' {
		return ""
	}
	if s = strings.ToUpper(s); s == "XX" {
		return ""
	}
	return s
}

// signal returns the signal of the client that the tenant does most about.
func (c *Client) signal(g *tenant.Grant) (name string, a tenant.Action) {
	if c.GPC {
		name, a = "Sec-GPC", g.Privacy.GPC
	}
	if c.DNT && g.Privacy.DNT > a {
		name, a = "DNT", g.Privacy.DNT
	}
	return name, a
}

// identify says in b what the edge knows of its client, and heeds the
// client's signals; it returns a rejection where the tenant wants nothing of
// clients that send one.
func (c *Client) identify(g *tenant.Grant, b *event.Beacon) *Rejection {
	b.Ctx.Country, b.Ctx.Prefix = c.Country, c.Prefix
	name, action := c.signal(g)
	if action == tenant.Ignore {
		return nil
	}
	metrics.GetOrCreateCounter(fmt.Sprintf(`serin_ingest_privacy_events_total{tenant=%q,signal=%q,action=%q}`,
		g.Tenant.String(), strings.ToLower(name), action.String())).Add(len(b.Events))
	if action == tenant.Strip {
		b.User, b.Ctx.Prefix = "", ""
		return nil
	}
	return &Rejection{Index: -1, Reason: event.ReasonPrivacy, Field: name, Value: "1", Want: "nothing: this tenant takes no events of clients that send the signal"}
}
