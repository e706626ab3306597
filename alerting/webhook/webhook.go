// Package webhook tells verdicts to delivery tools, signed as Standard
// Webhooks (https://www.standardwebhooks.com), at least once, and in order for
// each rollout (docs/formats/webhook.md).
//
// The outbox is durable and somebody else's; this package keeps nothing that a
// restart must not lose.
package webhook

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"serin.dev/serin/analysis/verdict"
)

// Secret signs messages. It prints as a placeholder, whatever prints it.
type Secret struct{ key []byte }

const (
	secretPrefix = "whsec_"
	redacted     = "whsec_REDACTED"
)

// ParseSecret reads whsec_ and the base64 of 24 to 64 bytes. Its errors do not
// hold the text.
func ParseSecret(s string) (Secret, error) {
	text, ok := strings.CutPrefix(s, secretPrefix)
	key, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(key) < 24 || len(key) > 64 {
		return Secret{}, errors.New("want whsec_ and the base64 of 24 to 64 bytes")
	}
	return Secret{key}, nil
}

// String returns a placeholder.
func (Secret) String() string { return redacted }

// GoString returns a placeholder.
func (Secret) GoString() string { return redacted }

// LogValue returns a placeholder.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns a placeholder.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Target is one receiver of a tenant's messages.
type Target struct {
	Tenant, Name, URL string
	Secrets           []Secret // the first is the newest; several while one is rotated
	Format            Format   // empty: Standard
	Teller            Teller   `json:"-"` // tells its messages instead; URL, secrets and format are of no use then
}

// Check reports what is wrong with the target's URL and secrets.
func (t Target) Check() error {
	u, err := url.Parse(t.URL)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return fmt.Errorf("url: %q: want https://HOST/PATH, or http:// within a network of your own", t.URL)
	case u.User != nil:
		return fmt.Errorf("url: of host %q: want no user and password in it: it is logged", u.Host)
	case u.Fragment != "":
		return fmt.Errorf("url: %q: want no fragment: it is never sent", t.URL)
	case len(t.Secrets) > 4:
		return fmt.Errorf("secrets: %d: want 1 to 4", len(t.Secrets))
	}
	return nil
}

// Message is one thing to tell.
type Message struct {
	ID        string    // the same at each try, so that a receiver can tell a repetition
	Stream    string    // TENANT/ROLLOUT; messages of a stream are told in order
	Time      time.Time // when it came to be
	ExpiresAt time.Time // after which telling it is of no use
	Number    uint64    // of the verdict; a stream's rise
	Decision  verdict.Decision
	Verdict   *verdict.Verdict // for those who act on it
	Body      []byte           // JSON
	// Make makes the body where there is none, at each try: of many that wait few are
	// told at once.
	Make func() ([]byte, error)
}

// Key returns the tenant and the rollout that a message is about.
func (m Message) Key() (tenant, rollout string) {
	tenant, rollout, _ = strings.Cut(m.Stream, "/")
	return tenant, rollout
}

// sign returns the headers of one try: the time is the try's, as the standard
// has it, so that receivers may refuse old ones as replays.
func (t Target) sign(m Message, now time.Time) (http.Header, error) {
	var signatures []string
	for _, s := range t.Secrets {
		wh, err := standardwebhooks.NewWebhookRaw(s.key)
		if err != nil {
			return nil, fmt.Errorf("sign message %s: %w", m.ID, err)
		}
		sig, err := wh.Sign(m.ID, now, m.Body)
		if err != nil {
			return nil, fmt.Errorf("sign message %s: %w", m.ID, err)
		}
		signatures = append(signatures, sig)
	}
	h := http.Header{}
	h.Set("Content-Type", t.Format.contentType())
	h.Set("User-Agent", "serin-webhook/1")
	h.Set(standardwebhooks.HeaderWebhookID, m.ID)
	h.Set(standardwebhooks.HeaderWebhookTimestamp, fmt.Sprint(now.Unix()))
	h.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	return h, nil
}

// Verify checks a message that was received: that it was signed with the
// secret, and within five minutes of now.
func Verify(s Secret, h http.Header, body []byte) error {
	wh, err := standardwebhooks.NewWebhookRaw(s.key)
	if err == nil {
		err = wh.Verify(body, h)
	}
	if err != nil {
		return fmt.Errorf("verify webhook: %w", err)
	}
	return nil
}
