package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"serin.dev/serin/internal/tenant"
)

// config is the configuration file (docs/operations.md). SERIN_LISTEN,
// SERIN_DATA, SERIN_JOURNAL_URL and SERIN_EDGE_SECRET go before the file, and
// flags before both.
type config struct {
	Listen       string         `yaml:"listen"`          // default 127.0.0.1:8711
	Data         string         `yaml:"data"`            // folder of the journal, the segments and the checkpoint; default serin-data
	Journal      journalConfig  `yaml:"journal"`         //
	SealAfter    time.Duration  `yaml:"seal_after"`      // longest time between segments; default 10s
	SDK          string         `yaml:"sdk"`             // file to serve as /serin.js; empty: none
	WebhookAllow []netip.Prefix `yaml:"webhook_allow"`   // internal addresses that webhooks may reach
	Taste        tasteConfig    `yaml:"taste,omitempty"` //
	Edge         edgeConfig     `yaml:"edge,omitempty"`  //
	Gate         gateConfig     `yaml:"gate,omitempty"`  //
	Alerting     alertingConfig `yaml:"alerting,omitempty"`
	Tenants      []tenantConfig `yaml:"tenants"`
}

// spareFiles are the descriptors that are kept for the journal, the segments
// and the tasters.
const spareFiles = 512

// maxConnections returns how many connections may be open: as many as the
// process may have files, less those that it needs itself.
func (c *config) maxConnections() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur > 1<<30 {
		return 0
	}
	return max(int(l.Cur)-spareFiles, spareFiles)
}

type tasteConfig struct {
	Isolation string `yaml:"isolation,omitempty"` // auto (default): bodies of a kind that is not familiar are decoded in child processes; process: all
	Tasters   int    `yaml:"tasters,omitempty"`   // child processes; default 4
}

type journalConfig struct {
	URL         string        `yaml:"url"`         // of an external JetStream; empty: embedded
	Credentials string        `yaml:"credentials"` // file
	Replicas    int           `yaml:"replicas"`
	MaxBytes    int64         `yaml:"max_bytes"` // of the events log, past which beacons are refused; 0: no bound
	MaxAge      time.Duration `yaml:"max_age"`   // of the events log; default 168h, which is how far the analysis may lag
}

type tenantConfig struct {
	ID       string          `yaml:"id"`
	Quota    quotaConfig     `yaml:"quota,omitempty"`
	Scrub    scrubConfig     `yaml:"scrub,omitempty"` // take emails, tokens, queries and the like out of texts
	Privacy  privacyConfig   `yaml:"privacy,omitempty"`
	Limits   limitsConfig    `yaml:"limits,omitempty"`
	Keys     []keyConfig     `yaml:"keys,omitempty"`
	Tokens   []tokenConfig   `yaml:"tokens,omitempty"`
	Webhooks []webhookConfig `yaml:"webhooks,omitempty"`
	Alerts   []alertConfig   `yaml:"alerts,omitempty"` // who is told of incidents
	Tools    []toolConfig    `yaml:"tools,omitempty"`  // told verdicts by their own APIs
	// Escalation is what becomes of a rollback that no receiver acknowledges.
	Escalation escalationConfig `yaml:"escalation,omitempty"`
	// Protections are deployment protection rules of GitHub.
	Protections []protectionConfig `yaml:"protections,omitempty"`
	// Objectives are OpenSLO files, or folders of them.
	Objectives []string `yaml:"objectives,omitempty"`
	Policies   []string `yaml:"policies,omitempty"` // files of policies that rollouts may name; paths are relative to where serin runs
}

// quotaConfig is in events per second; 0 is no bound.
type quotaConfig struct {
	Events float64 `yaml:"events,omitempty"` // of production traffic
	Other  float64 `yaml:"other,omitempty"`  // of test, shadow and synthetic traffic
}

type keyConfig struct {
	Key     string   `yaml:"key"`
	App     string   `yaml:"app,omitempty"`
	Origins []string `yaml:"origins,omitempty"`
	Tenancy string   `yaml:"tenancy,omitempty"`
}

type tokenConfig struct {
	Name   string `yaml:"name"`
	Role   string `yaml:"role"`
	Token  string `yaml:"token,omitempty"`  // the token itself, for a start; or
	SHA256 string `yaml:"sha256,omitempty"` // its digest, so that the file holds no secret
}

type webhookConfig struct {
	Name    string   `yaml:"name"`
	URL     string   `yaml:"url"`
	Secret  string   `yaml:"secret,omitempty"`
	Secrets []string `yaml:"secrets,omitempty"` // several while one is rotated
	Format  string   `yaml:"format,omitempty"`  // standard (default), cloudevents or cdevents
}

// toolConfig is one tool that is told verdicts by its own API (docs/delivery/push.md).
type toolConfig struct {
	Name        string `yaml:"name"`
	Kind        string `yaml:"kind"` // app_store, github, gitlab, google_play or launchdarkly
	URL         string `yaml:"url,omitempty"`
	Token       string `yaml:"token,omitempty"`
	TokenFile   string `yaml:"token_file,omitempty"`
	Repository  string `yaml:"repository,omitempty"`
	Project     string `yaml:"project,omitempty"`
	Environment string `yaml:"environment,omitempty"`
	Report      string `yaml:"report,omitempty"`
	Ref         string `yaml:"ref,omitempty"`
	Flag        string `yaml:"flag,omitempty"`
	Package     string `yaml:"package,omitempty"`
	Track       string `yaml:"track,omitempty"`
	KeyID       string `yaml:"key_id,omitempty"`
	KeyFile     string `yaml:"key_file,omitempty"`
	Issuer      string `yaml:"issuer,omitempty"`
}

// gateConfig has what authenticates the URLs of gates.
type gateConfig struct {
	Secrets []string `yaml:"secrets,omitempty"` // the first makes URLs, all are known; none: DATA/gate.secret, which is made on the first start
}

// faults returns what is wrong with the secrets.
func (c *gateConfig) faults() (faults []error) {
	for i, s := range c.Secrets {
		if len(s) < minSecret {
			faults = append(faults, fmt.Errorf("gate.secrets[%d]: %d bytes: want at least %d", i, len(s), minSecret))
		}
	}
	return faults
}

var goType = regexp.MustCompile(` (?:in type|into) (?:\[\])?main\.\w+`)

// loadConfig reads a file, or the defaults where path is empty.
func loadConfig(path string) (config, error) {
	c := config{Listen: "127.0.0.1:8711", Data: "serin-data", SealAfter: 10 * time.Second, Journal: journalConfig{MaxAge: 7 * 24 * time.Hour}}
	if path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			return c, fmt.Errorf("read configuration: %w", err)
		}
		dec := yaml.NewDecoder(bytes.NewReader(data))
		dec.KnownFields(true)
		if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
			// A Go type says nothing to who writes a file.
			text := goType.ReplaceAllString(err.Error(), "")
			return c, fmt.Errorf("read configuration %s (a policy, a rollout or an objective begins with its kind): %s", path, text)
		}
		// What stands after the first document would be read by nobody.
		for {
			var more yaml.Node
			err := dec.Decode(&more)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return c, fmt.Errorf("read configuration %s: %w", path, err)
			}
			if len(more.Content) > 0 && more.Content[0].Tag != "!!null" {
				return c, fmt.Errorf("%s:%d: another document: want one, with all of the configuration", path, more.Content[0].Line)
			}
		}
	}
	for _, v := range []struct {
		name string
		dst  *string
	}{{"SERIN_LISTEN", &c.Listen}, {"SERIN_DATA", &c.Data}, {"SERIN_JOURNAL_URL", &c.Journal.URL}, {"SERIN_EDGE_SECRET", &c.Edge.Secret}} {
		if s := os.Getenv(v.name); s != "" {
			*v.dst = s
		}
	}
	return c, nil
}

// directory checks the configuration and returns its tenants; it reports all
// faults together.
func (c *config) directory() (*tenant.Directory, error) {
	var faults []error
	var specs []tenant.Spec
	for i, t := range c.Tenants {
		s := tenant.Spec{ID: t.ID, Quota: tenant.Quota(t.Quota), Scrub: t.Scrub.spec(), Privacy: tenant.PrivacySpec(t.Privacy), Limits: tenant.Limits(t.Limits)}
		for _, k := range t.Keys {
			s.Keys = append(s.Keys, tenant.Key{Key: k.Key, App: k.App, Origins: k.Origins, Tenancy: k.Tenancy})
		}
		for j, tk := range t.Tokens {
			where := fmt.Sprintf("tenants[%d].tokens[%d]", i, j)
			role, err := tenant.ParseRole(tk.Role)
			if err != nil {
				faults = append(faults, fmt.Errorf("%s.%w", where, err))
			}
			sum := tk.SHA256
			if (tk.Token == "") == (tk.SHA256 == "") {
				faults = append(faults, fmt.Errorf("%s: want either token or sha256", where))
			}
			if tk.Token != "" {
				if len(tk.Token) < 6 {
					faults = append(faults, fmt.Errorf("%s.token: want at least 6 characters", where))
				}
				sum = tenant.Digest(tk.Token)
			}
			if tk.Name == "" {
				faults = append(faults, fmt.Errorf("%s.name: absent: want a name for logs and the record of overrides", where))
			}
			s.Tokens = append(s.Tokens, tenant.Token{Name: tk.Name, Role: role, SHA256: sum})
		}
		specs = append(specs, s)
	}
	faults = append(faults, c.Edge.faults()...)
	faults = append(faults, c.Gate.faults()...)
	if c.Journal.Replicas < 0 || c.Journal.Replicas > 5 {
		faults = append(faults, fmt.Errorf("journal.replicas: %d: want 0 to 5", c.Journal.Replicas))
	}
	if i := c.Taste.Isolation; i != "" && i != "auto" && i != "process" {
		faults = append(faults, fmt.Errorf("taste.isolation: %q: want auto or process", i))
	}
	if n := c.Taste.Tasters; n < 0 || n > 64 {
		faults = append(faults, fmt.Errorf("taste.tasters: %d: want 1 to 64, or 0 for the default of 4", n))
	}
	if c.Journal.MaxBytes < 0 {
		faults = append(faults, fmt.Errorf("journal.max_bytes: %d: want 0 or more", c.Journal.MaxBytes))
	}
	if c.Journal.MaxAge < time.Hour {
		faults = append(faults, fmt.Errorf("journal.max_age: %v: want 1h or more", c.Journal.MaxAge))
	}
	if c.SealAfter < 10*time.Millisecond || c.SealAfter > 10*time.Minute {
		faults = append(faults, fmt.Errorf("seal_after: %v: want 10ms to 10m", c.SealAfter))
	}
	d, err := tenant.NewDirectory(specs)
	if _, werr := c.targets(); werr != nil {
		faults = append(faults, werr)
	}
	if _, perr := c.protections(); perr != nil {
		faults = append(faults, perr)
	}
	if _, aerr := c.alertTargets(); aerr != nil {
		faults = append(faults, aerr)
	}
	if _, lerr := c.ladders(); lerr != nil {
		faults = append(faults, lerr)
	}
	return d, errors.Join(append(faults, err)...)
}

func (c *config) path(name string) string { return filepath.Join(c.Data, name) }
