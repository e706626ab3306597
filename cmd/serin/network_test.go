package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// countryFile writes a database of two networks in each of the forms that are
// read.
func countryFile(t *testing.T) string {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Serin-Test-Country", RecordSize: 24})
	if err != nil {
		t.Fatal(err)
	}
	for network, record := range map[string]mmdbtype.Map{
		"81.2.69.0/24":    {"country": mmdbtype.Map{"iso_code": mmdbtype.String("GB"), "geoname_id": mmdbtype.Uint32(2635167)}},
		"2a02:d000::/29":  {"country": mmdbtype.Map{"iso_code": mmdbtype.String("FR")}},
		"89.160.20.0/24":  {"country": mmdbtype.String("Sweden"), "country_code": mmdbtype.String("SE")},
		"67.43.156.0/24":  {"continent": mmdbtype.Map{"code": mmdbtype.String("AS")}},
		"216.160.83.0/24": {"country": mmdbtype.Map{"iso_code": mmdbtype.Uint32(7)}},
	} {
		_, n, err := net.ParseCIDR(network)
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Insert(n, record); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := tree.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "country.mmdb")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCountries(t *testing.T) {
	path := countryFile(t)
	db, err := openCountries(path)
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"81.2.69.142": "GB", "2a02:d000::1": "FR", "89.160.20.1": "SE", // by either form
		"67.43.156.1": "", "216.160.83.1": "", // a record without a country, and one of the wrong type
		"9.9.9.9": "", // no record
	} {
		if got := db.Country(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s is in %q, want %q", address, got, want)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Damage costs the country and nothing else.
	for at := range data {
		damaged := bytes.Clone(data)
		damaged[at] ^= 0xff
		if err := os.WriteFile(path, damaged, 0o644); err != nil {
			t.Fatal(err)
		}
		if db, err := openCountries(path); err == nil {
			db.Country(netip.MustParseAddr("81.2.69.142"))
			db.Country(netip.MustParseAddr("2a02:d000::1"))
		}
	}
}

func TestEdgeSecretIsMadeOnceAndKept(t *testing.T) {
	c := testConfig(t.TempDir())
	var log bytes.Buffer
	s := &server{c: c, logger: slog.New(slog.NewTextHandler(&log, nil))}
	first, err := s.network()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(c.path("edge.secret"))
	if err != nil || info.Mode().Perm() != 0o600 || len(first.Secret) != 32 {
		t.Fatalf("%v %v, %d bytes", info, err, len(first.Secret))
	}
	second, err := s.network()
	if err != nil || !bytes.Equal(first.Secret, second.Secret) {
		t.Errorf("a second start has another secret: %v", err)
	}
	if log.Len() > 0 {
		t.Errorf("logged %s", &log)
	}
	if err := os.Chmod(c.path("edge.secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.network(); err != nil || !strings.Contains(log.String(), "0600") {
		t.Errorf("a file that all can read: %v, logged %s", err, &log)
	}
	if err := os.WriteFile(c.path("edge.secret"), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.network(); err == nil || !strings.Contains(err.Error(), "hexadecimal") {
		t.Errorf("a damaged secret: %v", err)
	}
	s.c.Edge.Secret = "configured secrets go before kept ones"
	if n, err := s.network(); err != nil || string(n.Secret) != s.c.Edge.Secret {
		t.Errorf("%v", err)
	}
}

// TestLiveRolloutIsKept floods a tenant's releases, registers a rollout, and
// wants the sessions of its canary to be its.
func TestLiveRolloutIsKept(t *testing.T) {
	c := testConfig(t.TempDir())
	c.Tenants[0].Limits = limitsConfig{Releases: 2}
	s, _ := startServer(t, c)
	send := func(release, session string) {
		now := time.Now().UnixMilli()
		body := fmt.Sprintf(`{"v":1,"app":"shop-web","release":%q,"session":%q,"seq":0,"sent":%d,"events":[{"k":"view","n":"/","t":%d}]}`, release, session, now, now)
		if _, err := call(t.Context(), "POST", s.url()+"/v1/beacons?key="+ownKey, "", strings.NewReader(body)); err != nil {
			t.Fatal(err)
		}
	}
	released := func(session string) string {
		for range 200 {
			raw, err := get(t.Context(), s.url()+"/v1/events", ownToken)
			if err != nil {
				t.Fatal(err)
			}
			var m struct {
				Events []struct{ Session, Release string }
			}
			if err := json.Unmarshal(raw, &m); err != nil {
				t.Fatal(err)
			}
			for _, e := range m.Events {
				if e.Session == session {
					return e.Release
				}
			}
			time.Sleep(25 * time.Millisecond)
		}
		t.Fatalf("session %s is nowhere", session)
		return ""
	}
	for i := range 10 {
		send(fmt.Sprint("junk-", i), fmt.Sprint("session-", i))
	}
	send("2.4.1", "session-before")
	if got := released("session-before"); got != "other" {
		t.Fatalf("release %q: the flood left room, and the test shows nothing", got)
	}
	createRollout(t, s)
	deadline := time.Now().Add(10 * time.Second)
	for i := 0; ; i++ {
		session := fmt.Sprint("session-after-", i)
		send("2.4.1", session)
		if released(session) == "2.4.1" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the canary of a live rollout is not kept")
		}
		time.Sleep(100 * time.Millisecond)
	}
	send("junk-11", "session-junk")
	if got := released("session-junk"); got != "other" {
		t.Errorf("another release became %q", got)
	}
}

func TestLogHasNoAddresses(t *testing.T) {
	var b bytes.Buffer
	w := withoutAddresses{&b}
	for in, want := range map[string]string{
		"http: TLS handshake error from 203.0.113.7:4711: EOF":        "http: TLS handshake error from [address]: EOF",
		"http: panic serving [2001:db8::1]:4711: boom at server.go:1": "http: panic serving [address]: boom at server.go:1",
		"http: panic serving [fe80::1%eth0]:80: x":                    "http: panic serving [address]: x",
		"URL query contains semicolon":                                "URL query contains semicolon",
	} {
		b.Reset()
		if n, err := w.Write([]byte(in)); err != nil || n != len(in) || b.String() != want {
			t.Errorf("%q became %q", in, b.String())
		}
	}
}
