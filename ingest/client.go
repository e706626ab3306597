package ingest

import (
	"crypto/rand"
	"net/http"
	"net/netip"
	"strings"

	"serin.dev/serin/ingest/admit"
	"serin.dev/serin/internal/event"
)

// Network says what the edge may learn from where a request comes from. The
// zero Network believes no header and knows no country.
type Network struct {
	TrustedProxies []netip.Prefix  // whose X-Forwarded-For and country header are believed
	CountryHeader  string          // in which a trusted proxy names the client's country
	Countries      admit.Countries // asked where no header says it; nil: nobody is
	Secret         []byte          // keys the hashes of networks; absent: one that dies with the process
}

func (n *Network) perimeter() *admit.Perimeter {
	p := &admit.Perimeter{Trusted: n.TrustedProxies, CountryHeader: http.CanonicalHeaderKey(n.CountryHeader), Countries: n.Countries, Secret: n.Secret}
	if len(p.Secret) == 0 {
		p.Secret = make([]byte, 32)
		_, _ = rand.Read(p.Secret) // never fails, by its documentation
	}
	return p
}

// peerOf returns the other end of a request's connection; the zero Addr where
// it is no address, as of a socket of the file system.
func peerOf(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr()
}

// headerOf reads the fields of a request. A field of several lines is joined:
// some proxies add a line of their own to X-Forwarded-For, and the first line
// is then the client's word.
func headerOf(h http.Header) func(string) string {
	return func(name string) string {
		switch v := h[http.CanonicalHeaderKey(name)]; len(v) {
		case 0:
			return ""
		case 1:
			return v[0]
		default:
			return strings.Join(v, ",")
		}
	}
}

// addressHeaders are the fields in which proxies name a client's address: no
// decoder needs them, so none is given them.
var addressHeaders = []string{"x-forwarded-for", "forwarded", "x-real-ip", "x-client-ip", "cf-connecting-ip", "true-client-ip", "fastly-client-ip", "x-cluster-client-ip"}

// Live is a rollout that is under way; see [admit.Live].
type Live = admit.Live

// Keep says which rollouts are under way: what they name is stored as it is,
// whatever else is one too many, and what their sessions send is shed last. It replaces what an earlier call said.
func (e *Edge) Keep(rollouts []Live) {
	e.cardinality.Keep(rollouts)
	e.gate.Keep(rollouts)
}

// unwanted reports whether a beacon is refused since its client asked not to
// be observed: that is answered like a beacon that is taken, for there is
// nothing to mend.
func unwanted(whole *admit.Rejection) bool { return whole.Reason == event.ReasonPrivacy }

// unwanted tells the client that nothing of its beacon was stored.
func (a *answer) unwanted(whole *rejection) { a.taken(0, 0, []rejection{*whole}) }
