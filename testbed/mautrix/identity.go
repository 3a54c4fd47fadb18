package main

import (
	"context"
	"fmt"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto/ssss"
	"maunium.net/go/mautrix/id"
)

// makeIdentity creates a cross-signing identity, replacing an existing one, and signs this device with it.
func (p *phone) makeIdentity(ctx context.Context) (any, error) {
	keys, err := p.machine.GenerateCrossSigningKeys()
	if err != nil {
		return nil, err
	}
	if err := p.machine.PublishCrossSigningKeys(ctx, keys, p.givePassword); err != nil {
		return nil, err
	}
	if err := p.machine.SignOwnDevice(ctx, p.machine.OwnIdentity()); err != nil {
		return nil, err
	}
	return map[string]any{"masterKey": keys.MasterKey.PublicKey()}, nil
}

func (p *phone) givePassword(asked *mautrix.RespUserInteractive) any {
	return map[string]any{
		"type":       mautrix.AuthTypePassword,
		"session":    asked.Session,
		"identifier": mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: p.client.UserID.String()},
		"password":   p.password,
	}
}

// makeRecoveryKey generates a recovery key for secret storage.
func makeRecoveryKey() (any, error) {
	key, err := ssss.NewKey("")
	if err != nil {
		return nil, err
	}
	return map[string]any{"recoveryKey": key.RecoveryKey()}, nil
}

// restoreIdentity loads the identity from the account's secret storage, and signs this device with it.
func (p *phone) restoreIdentity(ctx context.Context, recoveryKey string) (any, error) {
	if err := p.machine.VerifyWithRecoveryKey(ctx, recoveryKey); err != nil {
		return nil, err
	}
	return map[string]any{"masterKey": p.machine.CrossSigningKeys.MasterKey.PublicKey()}, nil
}

// borrowIdentity copies the private keys from another phone. It signs nothing.
func (p *phone) borrowIdentity(deviceID id.DeviceID) error {
	err := fmt.Errorf("no phone here has the device %s", deviceID)
	phones.Range(func(_, other any) bool {
		if lender := other.(*phone); lender.client.DeviceID == deviceID {
			err = p.machine.ImportCrossSigningKeys(lender.machine.ExportCrossSigningKeys())
		}
		return err != nil
	})
	return err
}

// signDevice signs another device of the same user.
func (p *phone) signDevice(ctx context.Context, deviceID id.DeviceID) error {
	devices, err := p.machine.FetchKeys(ctx, []id.UserID{p.client.UserID}, true)
	if err != nil {
		return err
	}
	device, ok := devices[p.client.UserID][deviceID]
	if !ok {
		return fmt.Errorf("%s has no device %s", p.client.UserID, deviceID)
	}
	return p.machine.SignOwnDevice(ctx, device)
}

// look fetches a user's identity and devices from the homeserver.
func (p *phone) look(ctx context.Context, userID id.UserID) (any, error) {
	devices, err := p.machine.FetchKeys(ctx, []id.UserID{userID}, true)
	if err != nil {
		return nil, err
	}
	keys, err := p.machine.CryptoStore.GetCrossSigningKeys(ctx, userID)
	if err != nil {
		return nil, err
	}
	seen := map[string]any{"devices": []any{}}
	if master, ok := keys[id.XSUsageMaster]; ok {
		seen["masterKey"] = master.Key
	}
	for _, device := range devices[userID] {
		signed, err := p.isSignedByOwner(ctx, device)
		if err != nil {
			return nil, err
		}
		seen["devices"] = append(seen["devices"].([]any), map[string]any{
			"deviceId": device.DeviceID, "ed25519": device.SigningKey, "curve25519": device.IdentityKey,
			"signedByOwner": signed,
		})
	}
	return seen, nil
}

// isSignedByOwner reports whether the owner's self-signing key has signed a device, and the master key that key.
func (p *phone) isSignedByOwner(ctx context.Context, device *id.Device) (bool, error) {
	store := p.machine.CryptoStore
	keys, err := store.GetCrossSigningKeys(ctx, device.UserID)
	if err != nil {
		return false, err
	}
	master, selfSigning := keys[id.XSUsageMaster].Key, keys[id.XSUsageSelfSigning].Key
	if master == "" || selfSigning == "" {
		return false, nil
	}
	signed, err := store.IsKeySignedBy(ctx, device.UserID, selfSigning, device.UserID, master)
	if err != nil || !signed {
		return false, err
	}
	return store.IsKeySignedBy(ctx, device.UserID, device.SigningKey, device.UserID, selfSigning)
}
