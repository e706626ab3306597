package dialect

import (
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
)

// The short way to a URL's host and path finds what net/url does.
func TestSplit(t *testing.T) {
	parsed := func(raw string) (host, path string) {
		u, err := url.Parse(raw)
		switch {
		case err != nil || u.Host == "":
			return "", raw
		case u.Path == "":
			return u.Host, "/"
		}
		return u.Host, u.Path
	}
	parts := []string{"http", "https", "ftp", "://", ":", "/", "//", "shop.example", "user@", ":8443", "[::1]", "a", "b.js", "%20", "%zz", " ", "é", "\n", "..", "-", "_", "~", "+", ",", "=", "\\", "<", "{id}", ";x", "*"}
	r := rand.New(rand.NewPCG(3, 4))
	for range 200_000 {
		var sb strings.Builder
		if r.IntN(3) > 0 {
			sb.WriteString("https://shop.example"[:8+r.IntN(13)])
		}
		for range r.IntN(7) {
			sb.WriteString(parts[r.IntN(len(parts))])
		}
		raw := sb.String()
		host, path := split(raw)
		if wantHost, wantPath := parsed(raw); host != wantHost || path != wantPath {
			t.Fatalf("%q: host %q, path %q; want %q, %q", raw, host, path, wantHost, wantPath)
		}
	}
}
