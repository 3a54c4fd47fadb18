package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/verificationhelper"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

const (
	eventsPerSync = 500
	retryAfter    = 200 * time.Millisecond
	// Room keys arrive to-device, mostly before the message.
	keyPatience = 3 * time.Second
)

// phone is one device of a user. It also implements its client's syncer and crypto.
type phone struct {
	*mautrix.DefaultSyncer
	name     string
	password string
	client   *mautrix.Client
	machine  *crypto.OlmMachine
	helper   *verificationhelper.VerificationHelper
	asked    *verificationhelper.InMemoryVerificationStore
	accepts  atomic.Bool // whether to accept verification requests
	asking   sync.Mutex  // held while sending a request that the helper doesn't know yet
	macs     heldMACs

	lock   sync.Mutex
	synced chan struct{} // closed and replaced after each sync
}

var _ mautrix.CryptoHelper = (*phone)(nil)

// login logs a user in on a new device, which syncs from then on.
func login(ctx context.Context, asked request) (any, error) {
	client, err := mautrix.NewClient(asked.Homeserver, "", "")
	if err != nil {
		return nil, err
	}
	answered, err := client.Login(ctx, &mautrix.ReqLogin{
		Type:                     mautrix.AuthTypePassword,
		Identifier:               mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: asked.User},
		Password:                 asked.Password,
		DeviceID:                 asked.DeviceID,
		InitialDeviceDisplayName: "phone of " + asked.Person,
		StoreCredentials:         true,
	})
	if err != nil {
		return nil, err
	}
	log := zerolog.New(os.Stderr).Level(zerolog.ErrorLevel).With().Str("person", asked.Person).Logger()
	client.Log = log
	p := &phone{
		DefaultSyncer: mautrix.NewDefaultSyncer(),
		name:          asked.Person,
		password:      asked.Password,
		client:        client,
		macs: heldMACs{
			confirmed: map[id.VerificationTransactionID]bool{},
			waiting:   map[id.VerificationTransactionID]func(){},
		},
		asked:  verificationhelper.NewInMemoryVerificationStore(),
		synced: make(chan struct{}),
	}
	p.FilterJSON = &mautrix.Filter{Room: &mautrix.RoomFilter{Timeline: &mautrix.FilterPart{Limit: eventsPerSync}}}
	client.Syncer = p
	client.StateStore = mautrix.NewMemoryStateStore()
	client.Crypto = p
	p.machine = crypto.NewOlmMachine(client, &log, crypto.NewMemoryStore(nil), client.StateStore.(crypto.StateStore))
	if err := p.machine.Load(ctx); err != nil {
		return nil, err
	}
	if err := p.machine.ShareKeys(ctx, -1); err != nil {
		return nil, err
	}
	p.OnSync(p.machine.ProcessSyncResponse)
	p.OnEvent(client.StateStoreSyncHandler)
	p.OnEventType(event.StateMember, p.machine.HandleMemberEvent)
	p.OnEvent(p.see)
	p.helper = verificationhelper.NewVerificationHelper(client, p.machine, p.asked, verificationNews{p}, false, false, true)
	if err := p.helper.Init(ctx); err != nil {
		return nil, err
	}
	phones.Store(asked.Person, p)
	first := p.nextSync()
	go p.keepSyncing()
	select {
	case <-first:
	case <-time.After(time.Minute):
		return nil, errors.New("the first sync takes too long")
	}
	return map[string]any{
		"userId": answered.UserID, "deviceId": answered.DeviceID, "accessToken": answered.AccessToken,
	}, nil
}

func (p *phone) keepSyncing() {
	if err := p.client.Sync(); err != nil && !errors.Is(err, mautrix.MUnknownToken) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", p.name, err)
		os.Exit(1)
	}
}

// ProcessResponse handles a sync response and wakes those waiting for one.
func (p *phone) ProcessResponse(ctx context.Context, answer *mautrix.RespSync, since string) error {
	if err := p.DefaultSyncer.ProcessResponse(ctx, answer, since); err != nil {
		return err
	}
	p.lock.Lock()
	defer p.lock.Unlock()
	close(p.synced)
	p.synced = make(chan struct{})
	return nil
}

// OnFailedSync retries soon, unless the device was logged out.
func (p *phone) OnFailedSync(_ *mautrix.RespSync, err error) (time.Duration, error) {
	if errors.Is(err, mautrix.MUnknownToken) {
		return 0, err
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", p.name, err)
	return retryAfter, nil
}

func (p *phone) nextSync() <-chan struct{} {
	p.lock.Lock()
	defer p.lock.Unlock()
	return p.synced
}

// waitJoined waits until the phone knows that all of these users have joined. Before that it doesn't encrypt for them.
func (p *phone) waitJoined(ctx context.Context, roomID id.RoomID, users []id.UserID, deadline time.Duration) error {
	over := time.After(deadline)
	for {
		next := p.nextSync()
		missing := id.UserID("")
		for _, user := range users {
			if !p.client.StateStore.IsInRoom(ctx, roomID, user) {
				missing = user
			}
		}
		if missing == "" {
			return nil
		}
		select {
		case <-next:
		case <-over:
			return fmt.Errorf("%s has not joined %s", missing, roomID)
		}
	}
}

// see reports a timeline event, decrypted. Unencrypted events are dispatched by mautrix itself.
func (p *phone) see(ctx context.Context, evt *event.Event) {
	if evt.RoomID == "" || evt.Mautrix.EventSource&event.SourceTimeline == 0 || evt.Mautrix.EventSource&event.SourceDecrypted != 0 {
		return
	}
	if evt.Type != event.EventEncrypted {
		p.tellEvent(ctx, evt, evt, "clear")
		return
	}
	decrypted, err := p.Decrypt(ctx, evt)
	if errors.Is(err, crypto.ErrNoSessionFound) {
		go p.seeLater(ctx, evt)
		return
	}
	p.seeDecrypted(ctx, evt, decrypted, err)
}

func (p *phone) seeLater(ctx context.Context, evt *event.Event) {
	content := evt.Content.AsEncrypted()
	p.WaitForSession(ctx, evt.RoomID, content.SenderKey, content.SessionID, keyPatience)
	decrypted, err := p.Decrypt(ctx, evt)
	p.seeDecrypted(ctx, evt, decrypted, err)
}

func (p *phone) seeDecrypted(ctx context.Context, evt, decrypted *event.Event, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s cannot read %s: %v\n", p.name, evt.ID, err)
		p.tellEvent(ctx, evt, evt, "undecryptable")
		return
	}
	p.tellEvent(ctx, evt, decrypted, "decrypted")
	if evt.Sender == p.client.UserID {
		return
	}
	// The verification helper takes an event's own id as the id of its verification.
	if strings.HasPrefix(decrypted.Type.Type, "m.key.verification.") {
		if relatable, ok := decrypted.Content.Parsed.(event.Relatable); ok {
			decrypted.ID = relatable.OptionalGetRelatesTo().GetReferenceID()
		}
	}
	decrypted.Mautrix.EventSource = evt.Mautrix.EventSource | event.SourceDecrypted
	p.Dispatch(ctx, decrypted)
}

func (p *phone) tellEvent(ctx context.Context, outer, inner *event.Event, how string) {
	told := map[string]any{
		"roomId": outer.RoomID, "eventId": outer.ID, "sender": outer.Sender, "stateKey": outer.StateKey,
		"type": inner.Type.Type, "content": inner.Content.Raw, "outerContent": outer.Content.Raw, "how": how,
	}
	if device := inner.Mautrix.TrustSource; how == "decrypted" && device != nil {
		signed, err := p.isSignedByOwner(ctx, device)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", p.name, err)
		}
		told["sentBy"] = map[string]any{
			"deviceId": device.DeviceID, "signedByOwner": signed, "trust": inner.Mautrix.TrustState.String(),
		}
	}
	tell(map[string]any{"person": p.name, "event": told})
}

// Init does nothing; login has done it all.
func (p *phone) Init(context.Context) error { return nil }

// Encrypt encrypts an event for all devices of everyone in the room.
func (p *phone) Encrypt(ctx context.Context, roomID id.RoomID, eventType event.Type, content any) (*event.EncryptedEventContent, error) {
	encrypted, err := p.machine.EncryptMegolmEvent(ctx, roomID, eventType, content)
	if !crypto.IsShareError(err) {
		return encrypted, err
	}
	members, err := p.client.StateStore.GetRoomJoinedOrInvitedMembers(ctx, roomID)
	if err != nil {
		return nil, err
	}
	if err := p.machine.ShareGroupSession(ctx, roomID, members); err != nil {
		return nil, err
	}
	return p.machine.EncryptMegolmEvent(ctx, roomID, eventType, content)
}

// Decrypt decrypts an event of a room.
func (p *phone) Decrypt(ctx context.Context, evt *event.Event) (*event.Event, error) {
	return p.machine.DecryptMegolmEvent(ctx, evt)
}

// WaitForSession waits for a key.
func (p *phone) WaitForSession(ctx context.Context, roomID id.RoomID, key id.SenderKey, session id.SessionID, patience time.Duration) bool {
	return p.machine.WaitForSession(ctx, roomID, key, session, patience)
}

// RequestSession does nothing: keys that weren't shared aren't requested.
func (p *phone) RequestSession(context.Context, id.RoomID, id.SenderKey, id.SessionID, id.UserID, id.DeviceID) {
}
