package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"serin.dev/serin/alerting/alert"
	"serin.dev/serin/alerting/alertmanager"
	"serin.dev/serin/alerting/email"
	"serin.dev/serin/alerting/pagerduty"
	"serin.dev/serin/alerting/slack"
	"serin.dev/serin/alerting/webhook"
)

// alertingConfig says when alerts open and close, of all tenants.
type alertingConfig struct {
	Every         time.Duration `yaml:"every,omitempty"` // between evaluations; default 15s
	Clear         float64       `yaml:"clear,omitempty"`
	Evaluations   int           `yaml:"evaluations,omitempty"`
	KeepFiringFor time.Duration `yaml:"keep_firing_for,omitempty"`
	ReopenAfter   time.Duration `yaml:"reopen_after,omitempty"`
	ForgetAfter   time.Duration `yaml:"forget_after,omitempty"`
	NoDataAfter   time.Duration `yaml:"no_data_after,omitempty"`
	GroupInterval time.Duration `yaml:"group_interval,omitempty"`
	ExternalURL   string        `yaml:"external_url,omitempty"` // of this server, for links
}

func (c *alertingConfig) policy() alert.Policy {
	return alert.Policy{Clear: c.Clear, Evaluations: c.Evaluations, KeepFiring: c.KeepFiringFor, Reopen: c.ReopenAfter, Forget: c.ForgetAfter, NoData: c.NoDataAfter, Group: c.GroupInterval}
}

// checkURL reports an external_url that is none: an Alertmanager would refuse all alerts
// for it, the watchdog among them.
func (c *alertingConfig) checkURL() error {
	if c.ExternalURL == "" {
		return nil
	}
	u, err := url.Parse(c.ExternalURL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("alerting.external_url: %q: want https://HOST or http://HOST, without a user, a query or a fragment", c.ExternalURL)
	}
	return nil
}

// The kinds of targets.
const (
	kindAlertmanager = "alertmanager"
	kindSlack        = "slack"
	kindPagerDuty    = "pagerduty"
	kindWebhook      = "webhook"
	kindEmail        = "email"
)

// alertConfig is one target of a tenant's alerts. Which fields it has depends on
// its kind.
type alertConfig struct {
	Name     string `yaml:"name"`
	Kind     string `yaml:"kind"`
	Severity string `yaml:"severity,omitempty"` // the least that is told; empty: any

	URL        string            `yaml:"url,omitempty"`         // of all but email
	Secret     string            `yaml:"secret,omitempty"`      // webhook
	Secrets    []string          `yaml:"secrets,omitempty"`     // webhook: several while one is rotated
	RoutingKey string            `yaml:"routing_key,omitempty"` // pagerduty
	Token      string            `yaml:"token,omitempty"`       // alertmanager: bearer token
	Labels     map[string]string `yaml:"labels,omitempty"`      // alertmanager: put on all alerts
	Watchdog   time.Duration     `yaml:"watchdog,omitempty"`    // webhook: between messages that say that objectives are evaluated; 0: none

	SMTP     string   `yaml:"smtp,omitempty"`  // email: HOST:PORT
	Hello    string   `yaml:"hello,omitempty"` // the name that is said to the server; default: this machine's, where it has a domain
	Security string   `yaml:"security,omitempty"`
	User     string   `yaml:"user,omitempty"`
	Password string   `yaml:"password,omitempty"`
	From     string   `yaml:"from,omitempty"`
	To       []string `yaml:"to,omitempty"`
}

// alertTarget is a target as the server works with it.
type alertTarget struct {
	alert.Target
	body     func(*alert.Notification) ([]byte, error) // of its messages
	messages webhook.Target                            // of all but Alertmanager
	manager  *alertmanager.Target
	watchdog time.Duration // between messages of a webhook that nothing is wrong; 0: none
}

// The bounds of a watchdog: an evaluation stands for two minutes, and who waits for
// more than a day for an alarm waits for none.
const (
	minWatchdog = 10 * time.Second
	maxWatchdog = 24 * time.Hour
)

// alertPrefix keeps targets of alerts apart, in metrics and logs, from webhooks of
// the same name.
const alertPrefix = "alerts/"

// alertTargets returns the targets of all tenants' alerts; it reports all faults
// together.
func (c *config) alertTargets() ([]alertTarget, error) {
	var all []alertTarget
	var faults []error
	if err := c.Alerting.policy().Check(); err != nil {
		faults = append(faults, fmt.Errorf("alerting.%w", err))
	}
	if e := c.Alerting.Every; e != 0 && (e < time.Second || e > time.Minute) {
		faults = append(faults, fmt.Errorf("alerting.every: %v: want 1s to 1m", e))
	}
	if err := c.Alerting.checkURL(); err != nil {
		faults = append(faults, err)
	}
	client := webhook.NewClient(c.WebhookAllow)
	for i, t := range c.Tenants {
		names := map[string]bool{}
		for j, a := range t.Alerts {
			where := fmt.Sprintf("tenants[%d].alerts[%d]", i, j)
			if a.Name == "" || names[a.Name] {
				faults = append(faults, fmt.Errorf("%s.name: %q: want a name that no other of the tenant's alerts has", where, a.Name))
			}
			names[a.Name] = true
			target := alertTarget{Target: alert.Target{Tenant: t.ID, Name: a.Name, Least: a.Severity}}
			if err := a.make(&target, c, client); err != nil {
				faults = append(faults, fmt.Errorf("%s.%w", where, err))
				continue
			}
			if err := webhook.CheckURL(a.URL, c.WebhookAllow); err != nil {
				faults = append(faults, fmt.Errorf("%s.url: %w", where, err))
			}
			if host, _, err := net.SplitHostPort(a.SMTP); err == nil {
				if err := webhook.CheckHost(host, c.WebhookAllow); err != nil {
					faults = append(faults, fmt.Errorf("%s.smtp: %w", where, err))
				}
			}
			target.messages.Tenant, target.messages.Name = t.ID, alertPrefix+a.Name
			all = append(all, target)
		}
	}
	return all, errors.Join(faults...)
}

// make fills in what the kind says.
func (a *alertConfig) make(t *alertTarget, c *config, client webhook.Client) error {
	if a.Severity != "" && a.Severity != "page" && a.Severity != "ticket" {
		return fmt.Errorf("severity: %q: want page or ticket, or none for all", a.Severity)
	}
	if err := a.strays(); err != nil {
		return err
	}
	switch a.Kind {
	case kindAlertmanager:
		t.Level = true
		t.manager = &alertmanager.Target{Tenant: t.Tenant, URL: a.URL, Labels: a.Labels, Source: strings.TrimRight(c.Alerting.ExternalURL, "/"), Token: a.Token, Client: client}
		return t.manager.Check()
	case kindSlack:
		s := &slack.Target{URL: a.URL, Client: client}
		t.body, t.messages.Teller = slack.Body, s
		return s.Check()
	case kindPagerDuty:
		t.Holds = true
		p := &pagerduty.Target{URL: a.URL, Key: a.RoutingKey, Client: client}
		t.body, t.messages.Teller = pagerduty.Body, p
		return p.Check()
	case kindEmail:
		e := &email.Target{Address: a.SMTP, Security: a.Security, User: a.User, Password: a.Password, Hello: a.hello(), From: a.From, To: a.To, Dialer: webhook.NewDialer(c.WebhookAllow)}
		t.body, t.messages.Teller = e.Body, e
		return e.Check()
	case kindWebhook:
		t.body = alert.Body
		if t.watchdog = a.Watchdog; t.watchdog != 0 && (t.watchdog < minWatchdog || t.watchdog > maxWatchdog) {
			return fmt.Errorf("watchdog: %v: want %v to %v, or none", t.watchdog, minWatchdog, maxWatchdog)
		}
		t.messages.URL = a.URL
		texts := a.Secrets
		if a.Secret != "" {
			texts = append([]string{a.Secret}, texts...)
		}
		if len(texts) == 0 {
			return errors.New("secret: absent: want whsec_ and base64")
		}
		for _, text := range texts {
			secret, err := webhook.ParseSecret(text)
			if err != nil {
				return fmt.Errorf("secret: %w", err)
			}
			t.messages.Secrets = append(t.messages.Secrets, secret)
		}
		return t.messages.Check()
	}
	return fmt.Errorf("kind: %q: want alertmanager, slack, pagerduty, webhook or email", a.Kind)
}

// hello returns the name that a mail server is told. Google's relay, and others, take
// nothing from a localhost.
func (a *alertConfig) hello() string {
	if a.Hello != "" {
		return a.Hello
	}
	if name, err := os.Hostname(); err == nil && strings.Contains(name, ".") {
		return name
	}
	return ""
}

// strays reports a field that the kind does not have: it would be ignored.
func (a *alertConfig) strays() error {
	for _, f := range []struct {
		name  string
		there bool
		kinds []string
	}{
		{"url", a.URL != "", []string{kindAlertmanager, kindSlack, kindPagerDuty, kindWebhook}},
		{"secret", a.Secret != "" || len(a.Secrets) > 0, []string{kindWebhook}},
		{"routing_key", a.RoutingKey != "", []string{kindPagerDuty}},
		{"token", a.Token != "", []string{kindAlertmanager}},
		{"labels", len(a.Labels) > 0, []string{kindAlertmanager}},
		{"watchdog", a.Watchdog != 0, []string{kindWebhook}},
		{"smtp", a.SMTP != "", []string{kindEmail}}, {"hello", a.Hello != "", []string{kindEmail}}, {"security", a.Security != "", []string{kindEmail}},
		{"user", a.User != "", []string{kindEmail}}, {"password", a.Password != "", []string{kindEmail}},
		{"from", a.From != "", []string{kindEmail}}, {"to", len(a.To) > 0, []string{kindEmail}},
	} {
		known := false
		for _, k := range f.kinds {
			known = known || k == a.Kind
		}
		if f.there && !known {
			return fmt.Errorf("%s: given for the kind %q: want it only for %v", f.name, a.Kind, f.kinds)
		}
	}
	return nil
}
