// Package tenant holds the noun that isolates: a tenant owns its keys, tokens
// and data, and nothing crosses from one to another.
//
// An [ID] cannot be made from a string by just anybody. It is handed out where
// a key or a token was checked ([Directory]), or where durable data that was
// written under a checked key is opened again ([Stored]). Code that holds an ID
// therefore holds the proof that somebody was allowed to act for that tenant.
package tenant

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// ErrNoAccess says that a key or a token is unknown, or its role too low.
var ErrNoAccess = errors.New("no access")

// ID names a tenant: 1 to 63 characters of a-z, 0-9 and '-'. The zero ID
// belongs to nobody. The field is unexported so that no caller can impersonate.
type ID struct{ name string }

// String returns the tenant's name, empty for the zero ID.
func (id ID) String() string { return id.name }

// IsZero reports whether id belongs to nobody.
func (id ID) IsZero() bool { return id.name == "" }

var nameRE = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Stored turns a name read back from the store (a journal message or a
// segment, both written only after a key was checked) into an ID. It is not
// for names that come from a request.
func Stored(name string) (ID, error) {
	if !nameRE.MatchString(name) {
		return ID{}, fmt.Errorf("tenant %q: want 1 to 63 characters of a-z, 0-9 and '-'", name)
	}
	return ID{name}, nil
}

// Role says what a token may do; each role includes the ones before it.
type Role int

// The roles, from least to most. The zero Role may do nothing.
const (
	NoRole   Role = iota
	Viewer        // reads rollouts, verdicts, evidence and events
	Releaser      // creates rollouts, moves stages, overrides verdicts
	Admin         // everything within the tenant
)

var roleNames = []string{"none", "viewer", "releaser", "admin"}

// String returns the role's name as configuration spells it.
func (r Role) String() string { return roleNames[r] }

// ParseRole reads viewer, releaser or admin.
func ParseRole(s string) (Role, error) {
	if i := slices.Index(roleNames, s); i > 0 {
		return Role(i), nil
	}
	return NoRole, fmt.Errorf("role %q: want viewer, releaser or admin", s)
}

// Key is a public, write-only ingest key. It travels in pages and is no
// secret; it says on whose behalf, and for which app, a beacon may be written.
type Key struct {
	Key     string   // as in ?key=, 4 to 128 characters of A-Z a-z 0-9 _ -
	App     string   // the one app that the key may write; empty means any app of the tenant
	Origins []string // allowed Origin headers; see [Grant.AllowsOrigin]; empty means any
	Tenancy string   // highest tenancy that the key may claim; empty means production
}

// Token is a secret for the query and control endpoints.
type Token struct {
	Name   string // for logs and the record of overrides
	Role   Role
	SHA256 string // lower-case hex digest of the token; the token itself is not kept
}

// Quota bounds what a tenant may have stored, in events per second; beyond it
// the lowest request classes are shed first. 0 is no bound.
type Quota struct {
	Events float64 // of production traffic
	Other  float64 // of test, shadow and synthetic traffic together
}

// Spec is one tenant as configured.
type Spec struct {
	ID      string
	Quota   Quota
	Scrub   ScrubSpec
	Privacy PrivacySpec
	Limits  Limits
	Keys    []Key
	Tokens  []Token
}

// Grant is what a checked public key allows.
type Grant struct {
	Tenant  ID
	KeyID   string // the key itself: public by design, used as a metric label
	App     string // empty: any app
	Tenancy string // the highest tenancy that may be claimed
	Quota   Quota
	Scrub   *Scrub  // what is taken out of texts
	Privacy Privacy // what a client's signals ask for, and get
	Limits  Limits  // how many distinct texts may become values of columns
	origins []origin
}

// Access is what a checked token allows.
type Access struct {
	Tenant ID
	Token  string // the token's name, never its text
	Role   Role
}

type origin struct {
	scheme, host, port string
	anySub, anyPort    bool
}

// Directory maps keys and tokens to tenants. It is immutable and safe for
// concurrent use.
type Directory struct {
	keys   map[string]*Grant
	tokens map[[sha256.Size]byte]Access
}

var (
	keyRE = regexp.MustCompile(`^[A-Za-z0-9_-]{4,128}$`)
	shaRE = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// NewDirectory checks all specs and reports every fault found, not only the
// first one.
func NewDirectory(specs []Spec) (*Directory, error) {
	d := &Directory{keys: map[string]*Grant{}, tokens: map[[sha256.Size]byte]Access{}}
	var faults []error
	fault := func(format string, a ...any) { faults = append(faults, fmt.Errorf(format, a...)) }
	seen := map[string]bool{}
	for i, s := range specs {
		id, err := Stored(s.ID)
		if err != nil {
			fault("tenants[%d].id: %w", i, err)
			continue
		}
		if seen[s.ID] {
			fault("tenants[%d].id: %q is there twice", i, s.ID)
		}
		seen[s.ID] = true
		if !(s.Quota.Events >= 0 && s.Quota.Other >= 0) {
			fault("tenants[%d].quota: %v: want events per second, 0 (no bound) or more", i, s.Quota)
		}
		scrub, privacy, limits := s.policies(fmt.Sprintf("tenants[%d]", i), &faults)
		for j, k := range s.Keys {
			where := fmt.Sprintf("tenants[%d].keys[%d]", i, j)
			if !keyRE.MatchString(k.Key) {
				fault("%s.key: %q: want 4 to 128 characters of A-Z a-z 0-9 _ -", where, k.Key)
				continue
			}
			if _, dup := d.keys[k.Key]; dup {
				fault("%s.key: %q is there twice", where, k.Key)
			}
			switch k.Tenancy {
			case "":
				k.Tenancy = "production"
			case "production", "test", "shadow", "synthetic":
			default:
				fault("%s.tenancy: %q: want production, test, shadow or synthetic", where, k.Tenancy)
			}
			g := &Grant{Tenant: id, KeyID: k.Key, App: k.App, Tenancy: k.Tenancy, Quota: s.Quota, Scrub: scrub, Privacy: privacy, Limits: limits}
			for n, o := range k.Origins {
				parsed, err := parseOrigin(o)
				if err != nil {
					fault("%s.origins[%d]: %w", where, n, err)
					continue
				}
				g.origins = append(g.origins, parsed)
			}
			d.keys[k.Key] = g
		}
		for j, t := range s.Tokens {
			where := fmt.Sprintf("tenants[%d].tokens[%d]", i, j)
			if !shaRE.MatchString(t.SHA256) {
				fault("%s.sha256: want 64 lower-case hex digits", where)
				continue
			}
			if t.Role == NoRole {
				fault("%s.role: want viewer, releaser or admin", where)
			}
			var sum [sha256.Size]byte
			if _, err := hex.Decode(sum[:], []byte(t.SHA256)); err != nil {
				fault("%s.sha256: %w", where, err)
				continue
			}
			if _, dup := d.tokens[sum]; dup {
				fault("%s: the same token is there twice", where)
			}
			d.tokens[sum] = Access{Tenant: id, Token: t.Name, Role: t.Role}
		}
	}
	return d, errors.Join(faults...)
}

// Digest returns the lower-case hex SHA-256 of a token, as [Token] keeps it.
func Digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// Key returns the grant of a public key, or [ErrNoAccess].
func (d *Directory) Key(key string) (*Grant, error) {
	if g, ok := d.keys[key]; ok {
		return g, nil
	}
	return nil, fmt.Errorf("key: %w", ErrNoAccess)
}

// Token returns what a secret token allows, or [ErrNoAccess]. Tokens are found
// by digest, so the time it takes tells nothing about the token's text.
func (d *Directory) Token(token string) (Access, error) {
	sum := sha256.Sum256([]byte(token))
	a, ok := d.tokens[sum]
	if !ok {
		return Access{}, fmt.Errorf("token: %w", ErrNoAccess)
	}
	return a, nil
}

// parseOrigin reads scheme://host[:port], where host may begin with "*." (any
// subdomain) and port may be "*" (any port).
func parseOrigin(s string) (origin, error) {
	bad := fmt.Errorf("%q: want scheme://host[:port]; host may begin with \"*.\", port may be \"*\"", s)
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || scheme == "" || rest == "" || strings.ContainsAny(rest, "/?#@") {
		return origin{}, bad
	}
	o := origin{scheme: strings.ToLower(scheme)}
	host, port := rest, ""
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.HasSuffix(rest, "]") {
		host, port = rest[:i], rest[i+1:]
		if port == "" {
			return origin{}, bad
		}
	}
	if port == "*" {
		o.anyPort, port = true, ""
	}
	if sub, ok := strings.CutPrefix(host, "*."); ok {
		o.anySub, host = true, sub
	}
	if host == "" || strings.Contains(host, "*") || strings.Contains(port, "*") {
		return origin{}, bad
	}
	o.host, o.port = strings.ToLower(host), port
	return o, nil
}

// AllowsOrigin reports whether a request with this Origin header may write
// with the key. An absent Origin (a mobile app, a server) passes: Origin is
// hygiene against other people's pages, not authentication, and anything but a
// browser can forge it. The opaque origin "null" passes only an empty list.
func (g *Grant) AllowsOrigin(header string) bool {
	if header == "" || len(g.origins) == 0 {
		return true
	}
	u, err := url.Parse(header)
	if err != nil || u.Host == "" {
		return false
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	for _, o := range g.origins {
		if u.Scheme != o.scheme || (!o.anyPort && port != o.port) {
			continue
		}
		if o.anySub && strings.HasSuffix(host, "."+o.host) || !o.anySub && host == o.host {
			return true
		}
	}
	return false
}
