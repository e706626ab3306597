package tenant

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"time"
)

// Scope says what the holder of a capability may ask.
type Scope byte

// The scopes.
const (
	ScopeGate Scope = 'g' // the decision on one rollout, and to say that its next stage began
	ScopeFlag Scope = 'f' // the rollout's kill switch alone; it may stand in a page
)

// Capability is what a checked capability allows: one question about one
// rollout. Tools such as Flagger can send no header, so it stands in the URL.
type Capability struct {
	Tenant  ID
	Rollout string
	Scope   Scope
	Expires time.Time // to the second
}

// Capabilities makes and checks capabilities. They are kept nowhere: a
// capability is its content, authenticated with HMAC-SHA-256. Taking a secret
// away revokes what was made with it.
type Capabilities struct{ secrets [][]byte }

// macSize is what is kept of the authentication code, in bytes.
const macSize = 16

// NewCapabilities returns one that makes with the first secret and checks with
// all of them. It panics without a secret.
func NewCapabilities(secrets ...[]byte) *Capabilities {
	if len(secrets) == 0 || len(secrets[0]) == 0 {
		panic("BUG: capabilities without a secret")
	}
	return &Capabilities{secrets}
}

// Mint returns the text of a capability, of letters, digits, '-' and '_'.
func (c *Capabilities) Mint(k Capability) string {
	content := []byte{byte(k.Scope)}
	content = binary.BigEndian.AppendUint64(content, uint64(k.Expires.Unix()))
	content = append(content, k.Tenant.String()+"/"+k.Rollout...)
	return base64.RawURLEncoding.EncodeToString(append(mac(c.secrets[0], content), content...))
}

// ErrCapability says that a text is no capability, or one that was forged,
// revoked, or has expired; which of them is not told.
var ErrCapability = errors.New("unknown or expired capability")

// Check reads a capability and returns what it allows.
func (c *Capabilities) Check(text string, now time.Time) (Capability, error) {
	const head = macSize + 1 + 8
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) <= head {
		return Capability{}, ErrCapability
	}
	content := b[macSize:]
	known := false
	for _, secret := range c.secrets {
		if hmac.Equal(mac(secret, content), b[:macSize]) {
			known = true
		}
	}
	name, rollout, ok := strings.Cut(string(b[head:]), "/")
	id, err := Stored(name)
	k := Capability{Tenant: id, Rollout: rollout, Scope: Scope(content[0]), Expires: time.Unix(int64(binary.BigEndian.Uint64(content[1:9])), 0)}
	if !known || !ok || err != nil || now.After(k.Expires) {
		return Capability{}, ErrCapability
	}
	return k, nil
}

func mac(secret, content []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("serin capability 1\n"))
	h.Write(content)
	return h.Sum(nil)[:macSize]
}
