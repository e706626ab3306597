package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"

	"serin.dev/serin/analysis"
	"serin.dev/serin/ingest"
	"serin.dev/serin/internal/store/segment"
	"serin.dev/serin/internal/tenant"
)

// edgeConfig is what the edge may learn from where a request comes from.
type edgeConfig struct {
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies,omitempty"` // whose X-Forwarded-For and country header are believed
	CountryHeader  string         `yaml:"country_header,omitempty"`  // in which they name the country, such as CF-IPCountry
	CountryDB      string         `yaml:"country_db,omitempty"`      // MMDB file with countries
	Secret         string         `yaml:"secret,omitempty"`          // keys the hashes of networks; empty: DATA/edge.secret, which is made on the first start
}

// minSecret is the least length of a secret that an operator makes.
const minSecret = 32

var headerRE = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// faults returns what is wrong with the configuration, the database included.
func (c *edgeConfig) faults() (faults []error) {
	if c.CountryHeader != "" {
		if !headerRE.MatchString(c.CountryHeader) {
			faults = append(faults, fmt.Errorf("edge.country_header: %q: want the name of a header", c.CountryHeader))
		}
		if len(c.TrustedProxies) == 0 {
			faults = append(faults, fmt.Errorf("edge.country_header: %q without edge.trusted_proxies: want the proxies that set it, else any client could", c.CountryHeader))
		}
	}
	if c.Secret != "" && len(c.Secret) < minSecret {
		faults = append(faults, fmt.Errorf("edge.secret: %d bytes: want at least %d", len(c.Secret), minSecret))
	}
	if c.CountryDB != "" {
		if _, err := openCountries(c.CountryDB); err != nil {
			faults = append(faults, fmt.Errorf("edge.country_db: %w", err))
		}
	}
	return faults
}

// countries is a database of countries by address, in MaxMind's format: that
// of GeoLite2, GeoIP2 and DB-IP, or the flat one of IPinfo.
type countries struct{ db *maxminddb.Reader }

func openCountries(path string) (*countries, error) {
	// Read and not mapped: a mapped file that is cut short while it is replaced
	// would end the process.
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	db, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &countries{db}, nil
}

// Country returns the country of an address, or nothing where the database has
// none or is damaged there: a beacon is worth more than its country.
func (c *countries) Country(a netip.Addr) string {
	r := c.db.Lookup(a)
	if !r.Found() {
		return ""
	}
	var code string
	if err := r.DecodePath(&code, "country", "iso_code"); err == nil && code != "" {
		return code
	}
	if err := r.DecodePath(&code, "country_code"); err != nil {
		return ""
	}
	return code
}

// network opens what the edge needs to know clients by.
func (s *server) network() (ingest.Network, error) {
	c := &s.c.Edge
	n := ingest.Network{TrustedProxies: c.TrustedProxies, CountryHeader: c.CountryHeader, Secret: []byte(c.Secret)}
	if c.Secret == "" {
		secret, err := keptSecret(s.c.path("edge.secret"), "by which hashes of networks can be undone", s.logger)
		if err != nil {
			return n, err
		}
		n.Secret = secret
	}
	if c.CountryDB != "" {
		db, err := openCountries(c.CountryDB)
		if err != nil {
			return n, fmt.Errorf("edge.country_db: %w", err)
		}
		n.Countries = db
	}
	return n, nil
}

// keepEvery is how soon the edge knows of a new rollout.
const keepEvery = time.Second

// keepLive tells the edge which rollouts are under way, until ctx ends. While
// the analysis is down the edge goes by what it was told last.
func (s *server) keepLive(ctx context.Context, engine *analysis.Engine) {
	t := time.NewTicker(keepEvery)
	defer t.Stop()
	var was []analysis.Live
	for told := false; ; told = true {
		if live := engine.Live(); !told || !slices.Equal(live, was) {
			list := make([]ingest.Live, len(live))
			for i, l := range live {
				list[i] = ingest.Live(l)
			}
			s.edge.Keep(list)
			was = live
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// capabilities opens what the URLs of gates are authenticated with.
func (s *server) capabilities() (*tenant.Capabilities, error) {
	var secrets [][]byte
	for _, text := range s.c.Gate.Secrets {
		secrets = append(secrets, []byte(text))
	}
	if secrets == nil {
		secret, err := keptSecret(s.c.path("gate.secret"), "with which URLs of gates can be made", s.logger)
		if err != nil {
			return nil, err
		}
		secrets = [][]byte{secret}
	}
	return tenant.NewCapabilities(secrets...), nil
}

// keptSecret reads the secret that an earlier start made, or makes it,
// readable by its owner alone. danger says what others could do with it.
func keptSecret(path, danger string, logger *slog.Logger) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		made := make([]byte, 32)
		_, _ = rand.Read(made) // never fails, by its documentation
		if err := segment.WriteFile(path, []byte(hex.EncodeToString(made)+"\n")); err != nil {
			return nil, fmt.Errorf("make a secret: %w", err)
		}
		return made, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read a secret: %w", err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		logger.Warn("others can read a secret, "+danger, "file", path, "mode", info.Mode().Perm().String(), "want", "0600")
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(secret) < minSecret {
		return nil, fmt.Errorf("read a secret: %s: want %d bytes or more in hexadecimal", path, minSecret)
	}
	return secret, nil
}

// addressRE finds the client's address and port where net/http's own log says
// them; the last thing that parts them is the port's colon.
var addressRE = regexp.MustCompile(`\[[0-9A-Fa-f:.]+(%[^\]\s]+)?\]:\d+|\b(\d{1,3}\.){3}\d{1,3}(:\d+)?\b`)

// withoutAddresses writes a log's lines without the addresses in them, since
// no client's address is kept anywhere.
type withoutAddresses struct{ to io.Writer }

func (w withoutAddresses) Write(p []byte) (int, error) {
	if _, err := w.to.Write(addressRE.ReplaceAll(p, []byte("[address]"))); err != nil {
		return 0, err
	}
	return len(p), nil
}
