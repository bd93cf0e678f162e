import { webhookSecretFault } from '@vpe/core'
import { expect, test } from 'vitest'
import { newWebhookSecret, signWebhook } from './webhook-signature.ts'

test('signs as the reference vector of Standard Webhooks has it', () => {
  const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
  expect(signWebhook(secret, 'msg_p5jXN8AQM9LWM0D4loKWxJek', 1614265330, '{"test": 2432232314}')).toBe(
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  )
})

test('makes secrets that it would take, and no two alike', () => {
  const [one, other] = [newWebhookSecret(), newWebhookSecret()]
  expect(webhookSecretFault(one)).toBeNull()
  expect(one).not.toBe(other)
})
